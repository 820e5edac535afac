"""Augmentation: a batch and a generator in, a batch out."""
