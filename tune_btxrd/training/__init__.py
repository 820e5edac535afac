"""Training: arrays to metrics; has never heard of Ray."""
