"""Pipeline: the verbs as functions."""
