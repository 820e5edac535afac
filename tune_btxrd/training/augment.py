"""uint8 images -> augmented, normalised float batches, on the device. A pure function of batch and generator.

Shapes: B = batch, H = W = S px, K = 1 (grey) or 3 channels.
"""
# ruff: noqa: N803, N806
# (shape suffixes: logits_BC)

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd.config import TrainConfig


def to_float(images: Tensor) -> Tensor:
    """uint8 (B,S,S) or (B,S,S,3) -> float32 (B,K,S,S) in [0, 1]."""
    images_BHWK = images.unsqueeze(-1) if images.ndim == 3 else images
    return images_BHWK.permute(0, 3, 1, 2).float().div_(255)


def normalise(images_BKHW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std with (3,) mean and std; grey becomes three channels. (B,3,S,S), dense in channels_last."""
    images_BHWK = images_BKHW.permute(0, 2, 3, 1)
    return torch.addcmul(-mean / std, images_BHWK, 1 / std).permute(0, 3, 1, 2)


def augment(images: Tensor, generator: torch.Generator, config: TrainConfig) -> Tensor:
    """The augmented batch: mirror, then rotation, scale and shift in one resampling, then brightness and contrast.

    Every image always draws the same seven numbers, so switching one kind off leaves the others as they were. A kind of
    range (or probability) 0 is skipped and leaves every bit as it was; flip = 1 alone is the exact mirror.

    Args:
        images: float (B,K,S,S) in [0, 1]; not changed.
        generator: on the same device; the only source of randomness.
        config: flip, rotation, scale_min, shift, brightness and contrast are read.
    """
    drawn_7B = torch.rand(7, len(images), generator=generator, device=images.device)
    signed_7B = 2 * drawn_7B - 1
    if config.flip:
        images = torch.where((drawn_7B[0] < config.flip).view(-1, 1, 1, 1), images.flip(-1), images)
    if config.rotation or config.shift or config.scale_min < 1:
        scale = 1 - (1 - config.scale_min) * drawn_7B[2]
        theta = affine(signed_7B[1] * config.rotation, scale, signed_7B[3:5] * config.shift)
        images = resample(images, theta)
    if config.brightness or config.contrast:
        images = jitter(images, 1 + signed_7B[5] * config.brightness, 1 + signed_7B[6] * config.contrast)
    return images


def affine(degrees: Tensor, scale: Tensor, shift_2B: Tensor) -> Tensor:
    """(B,2,3) maps from output to input coordinates, both in [-1, 1], for `resample`.

    Args:
        degrees: (B,) counter-clockwise.
        scale: (B,) below 1 shrinks the picture.
        shift_2B: to the right and down, as a share of the side.
    """
    angle = degrees * (math.pi / 180)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    x, y = 2 * shift_2B
    rows = (cos, -sin, sin * y - cos * x, sin, cos, -sin * x - cos * y)
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def resample(images: Tensor, theta: Tensor) -> Tensor:
    """Bilinear; what comes from outside the picture is black, like the border of a radiograph."""
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Clamped to [0, 1]: each image times its (B,) brightness, its distance from its own mean times its (B,) contrast."""
    factor = (brightness * contrast).view(-1, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    offset = mean * (brightness * (1 - contrast)).view(-1, 1, 1, 1)
    return torch.addcmul(offset, images, factor).clamp_(0, 1)
