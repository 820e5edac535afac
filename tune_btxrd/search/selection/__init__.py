"""Selection: which trial of a search is best, what confirmation repeats, and which config wins."""
