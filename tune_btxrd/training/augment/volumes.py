"""uint8 volumes -> augmented, normalised float batches, on the device. A pure function of batch and generator.

Shapes: B = batch, S = side in px, K = channels. Axes of a volume: to the right, to the front, up (RAS).
"""
# ruff: noqa: N803, N806
# (shape suffixes: drawn_11B)

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.arrays import MIDDLE as MIDDLE_LEVEL
from tune_btxrd.data.cache.volumes import CLIP, LEVELS

DEVIATION = LEVELS / (2 * CLIP) / 255  # one standard deviation of the foreground, of values in [0, 1]
MIDDLE = MIDDLE_LEVEL / 255  # its mean, and the background once it is a float
AXES = (2, 3, 4)  # of a float batch


def level_normalization(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel that give back the z-scores of the foreground from values in [0, 1] (cache/volumes.py)."""
    return (MIDDLE,) * channels, (DEVIATION,) * channels


def to_float(volumes: Tensor) -> Tensor:
    """uint8 (B,S,S,S,K) -> float32 (B,K,S,S,S) in [0, 1]; the background becomes MIDDLE, a z-score of 0.

    As it was, five standard deviations below the mean, a network saw the faces of the cube first: its convolutions pad with
    zeros (docs/LOG.md).
    """
    return volumes.masked_fill(volumes == 0, MIDDLE_LEVEL).movedim(-1, 1).float().div_(255)


def normalise(volumes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std with (K,) mean and std."""
    shape = (1, -1, 1, 1, 1)
    return torch.addcmul((-mean / std).view(shape), volumes, (1 / std).view(shape))


def augment(volumes: Tensor, generator: torch.Generator, config: TrainConfig) -> Tensor:
    """The augmented batch: mirrors by axis; rotation, scale, shift in one resampling; intensities; noise.

    Every volume always draws the same numbers (10, four more per channel, and noise where it is asked for), so switching one
    kind off leaves the others of the batch as they were. A kind of range (or probability) 0 is skipped and leaves every bit
    as it was; a mirror of probability 1 alone is exact. Background stays background: intensities of the foreground change.

    Args:
        volumes: float (B,K,S,S,S) in [0, 1]; not changed.
        generator: on the same device; the only source of randomness.
        config: flip, flip_front, flip_up, rotation, scale_min, shift, brightness, contrast, intensity_shift, gamma and
            noise are read.
    """
    count, channels = volumes.shape[:2]
    drawn_10B = torch.rand(10, count, generator=generator, device=volumes.device)
    drawn_4BK = torch.rand(4, count, channels, generator=generator, device=volumes.device)
    for axis, chance, drawn_B in zip(AXES, (config.flip, config.flip_front, config.flip_up), drawn_10B[:3], strict=True):
        if chance:
            volumes = torch.where((drawn_B < chance).view(-1, 1, 1, 1, 1), volumes.flip(axis), volumes)
    if config.rotation or config.shift or config.scale_min < 1:
        signed_6B = 2 * drawn_10B[3:9] - 1
        scale = 1 - (1 - config.scale_min) * drawn_10B[9]
        volumes = resample(volumes, affine(signed_6B[:3] * config.rotation, scale, signed_6B[3:] * config.shift))
    volumes = intensities(volumes, 2 * drawn_4BK - 1, config)
    if config.noise:
        drawn = torch.randn(volumes.shape, generator=generator, device=volumes.device)
        noisy = (volumes + drawn * (config.noise * DEVIATION)).clamp(0, 1)
        volumes = torch.where(is_background(volumes), volumes, noisy)
    return volumes


def affine(degrees_3B: Tensor, scale_B: Tensor, shift_3B: Tensor) -> Tensor:
    """(B,3,4) maps from output to input coordinates, in [-1, 1] and in the order of `grid_sample` (last axis first).

    Args:
        degrees_3B: rotations about the axes to the right, to the front and up, one after the other; counter-clockwise for
            who looks against the axis.
        scale_B: below 1 shrinks the volume.
        shift_3B: to the right, to the front and up, as a share of the side.
    """
    cos, sin = torch.cos(degrees_3B * (math.pi / 180)), torch.sin(degrees_3B * (math.pi / 180))
    turn = torch.eye(3, device=scale_B.device).expand(len(scale_B), 3, 3)
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3  # turns from the first towards the second
        about = torch.zeros(len(scale_B), 3, 3, device=scale_B.device)
        about[:, axis, axis] = 1
        about[:, one, one] = about[:, two, two] = cos[axis]
        about[:, two, one], about[:, one, two] = sin[axis], -sin[axis]
        turn = about @ turn
    back = turn.transpose(1, 2) / scale_B.view(-1, 1, 1)  # the inverse of a rotation is its transpose
    offset = -back @ (2 * shift_3B).T.unsqueeze(2)
    return torch.cat([back.flip(1, 2), offset.flip(1)], dim=2)


def resample(volumes: Tensor, theta: Tensor) -> Tensor:
    """Linear between voxels; what comes from outside the volume is background."""
    grid = F.affine_grid(theta, list(volumes.shape), align_corners=False)
    placed = F.grid_sample(volumes - MIDDLE, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return placed + MIDDLE


def is_background(volumes: Tensor) -> Tensor:
    """Where a float batch is background, or as good as: exactly the mean."""
    return volumes == torch.tensor(float(MIDDLE_LEVEL), device=volumes.device).div(255)


def intensities(volumes: Tensor, signed_4BK: Tensor, config: TrainConfig) -> Tensor:
    """Per channel: brightness times the value, contrast times its distance from the mean of the foreground, a shift, an
    exponent; clamped to [0, 1]. Background is left as it is.
    """
    if not (config.brightness or config.contrast or config.intensity_shift or config.gamma):
        return volumes
    signed = signed_4BK[..., None, None, None]
    factor, spread = 1 + signed[0] * config.brightness, 1 + signed[1] * config.contrast
    offset = MIDDLE * factor * (1 - spread) + signed[2] * (config.intensity_shift * DEVIATION)
    changed = torch.addcmul(offset, volumes, factor * spread).clamp_(0, 1)
    if config.gamma:
        changed = changed ** ((1 + config.gamma) ** signed[3])
    return torch.where(is_background(volumes), volumes, changed)


class Volumes:
    """Cubes of one or more channels, as a SampleKind."""

    fewest = 1

    def accepts(self, samples: np.ndarray) -> bool:
        """uint8 (N, S, S, S, K)."""
        return samples.dtype == np.uint8 and samples.ndim == 5 and len(set(samples.shape[1:4])) == 1

    def side(self, samples: np.ndarray) -> int:
        """S."""
        return int(samples.shape[1])

    def pixels(self, samples: np.ndarray) -> int:
        """S * S * S."""
        return self.side(samples) ** 3

    def channels(self, samples: np.ndarray) -> int:
        """K."""
        return int(samples.shape[-1])

    def to_float(self, samples: Tensor) -> Tensor:
        """See the function of this name."""
        return to_float(samples)

    def augment(self, batch: Tensor, generator: torch.Generator, config: TrainConfig) -> Tensor:
        """See the function of this name."""
        return augment(batch, generator, config)

    def normalise(self, batch: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """See the function of this name."""
        return normalise(batch, mean, std)

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """channels_last_3d on CUDA; a CPU is faster without (docs/LOG.md)."""
        return torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format

    def blank(self, count: int, side: int, device: torch.device, *, channels: int | None) -> Tensor:
        """(count, channels, S, S, S)."""
        return torch.zeros(count, channels or 1, side, side, side, device=device).to(
            memory_format=self.memory_format(device)
        )


VOLUMES = Volumes()
