"""Evaluation: the only folder that scores a model on a test part."""
