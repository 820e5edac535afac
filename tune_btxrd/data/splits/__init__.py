"""Splits: which groups of images train, validate and test."""
