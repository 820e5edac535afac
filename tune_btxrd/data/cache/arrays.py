"""Decoded samples as arrays for a model, without torch: batches of unlike samples, and a network's input."""
# ruff: noqa: N806
# (shape suffixes: images_BSSK; B = batch, S = side in px, K = channels)

from collections.abc import Sequence

import numpy as np


def stack_samples(samples: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (B, S, S) where all are grey, else (B, S, S, 3)."""
    if all(sample.ndim == 2 for sample in samples):
        return np.stack(samples)
    return np.stack([as_rgb(sample) for sample in samples])


def as_rgb(sample: np.ndarray) -> np.ndarray:
    """(S, S) or (S, S, 3) -> (S, S, 3)."""
    return sample if sample.ndim == 3 else np.repeat(sample[..., None], 3, axis=2)


def normalised(samples: np.ndarray, *, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 (B, S, S) or (B, S, S, 3) -> float32 (B, 3, S, S), as `training/augment/images.py` computes it with torch."""
    images_BSSK = samples[..., None] if samples.ndim == 3 else samples
    pixels = images_BSSK.astype(np.float32) / np.float32(255)
    scaled = (pixels - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
