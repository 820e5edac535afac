"""Tasks: what a target is: counts, weights, losses, probabilities, metrics of an epoch, decisions."""
