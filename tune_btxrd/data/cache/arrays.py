"""Decoded samples as arrays for a model, without torch: batches of unlike samples, and a network's input."""
# ruff: noqa: N806
# (shape suffixes: images_BSSK; B = batch, S = side in px, K = channels; a volume is (S, S, S, K), always with its channels)

from collections.abc import Sequence

import numpy as np

MIDDLE = 128  # level of a volume that stands for the mean of its foreground (volumes.py)


def stack_samples(samples: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (B, S, S) where all are grey, else (B, S, S, 3); of volumes (B, S, S, S, K)."""
    if len({sample.ndim for sample in samples}) == 1:
        return np.stack(samples)
    return np.stack([as_rgb(sample) for sample in samples])


def as_rgb(sample: np.ndarray) -> np.ndarray:
    """(S, S) or (S, S, 3) -> (S, S, 3)."""
    return sample if sample.ndim == 3 else np.repeat(sample[..., None], 3, axis=2)


def normalised(samples: np.ndarray, *, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 (B, S, S), (B, S, S, 3) or (B, S, S, S, K) -> float32 with channels second, as `training/augment`."""
    images_BSSK = samples[..., None] if samples.ndim == 3 else samples
    if samples.ndim == 5:  # the background of a volume takes the mean of its foreground, a z-score of 0
        images_BSSK = np.where(samples == 0, np.uint8(MIDDLE), samples)
    pixels = images_BSSK.astype(np.float32) / np.float32(255)
    scaled = (pixels - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1))
