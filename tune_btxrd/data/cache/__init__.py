"""Cache: every image decoded once, shared by all trials of a node."""
