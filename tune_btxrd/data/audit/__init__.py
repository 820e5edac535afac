"""Audit: what is wrong with a dataset, or could fool a model, before anything is trained."""
