"""Readers: one per layout of a dataset folder, each returns a Manifest."""
