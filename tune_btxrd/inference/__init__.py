"""Inference: trained models opened, exported, asked and explained."""
