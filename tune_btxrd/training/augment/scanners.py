"""What another scanner would have made of an image: cut edges, blur, tone curve, equalised histogram, inverted grey.

Pure functions of a batch and of numbers that were drawn for it. Shapes: B = batch, K = 1 (grey) or 3 channels, S = side.
"""
# ruff: noqa: N803
# (shape suffixes: drawn_4B)

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd.config import TrainConfig

DRAWS = 8  # numbers per image: four edges, blur, tone curve, equalise, invert
REACH = 3  # standard deviations of a blur that its kernel holds
SHARPEST = 1e-3  # px: a kernel so narrow is exactly the pixel itself


def scans(config: TrainConfig) -> bool:
    """Whether any of these kinds is on."""
    return any((config.border, config.blur, config.gamma, config.equalize, config.invert))


def as_scanned(images: Tensor, drawn_4B: Tensor, config: TrainConfig) -> Tensor:
    """Blur, then tone curve, equalised histogram, black for white; a kind that is off changes no bit.

    Args:
        images: float (B,K,S,S) in [0, 1]; not changed.
        drawn_4B: one number in [0, 1) per image and kind, in that order.
    """
    if config.blur:
        largest = config.blur * images.shape[-1]
        images = blurred(images, drawn_4B[0] * largest, reach=math.ceil(REACH * largest))
    if config.gamma:
        images = images ** ((1 + config.gamma) ** (2 * drawn_4B[1] - 1)).view(-1, 1, 1, 1)
    if config.equalize:
        images = torch.where((drawn_4B[2] < config.equalize).view(-1, 1, 1, 1), equalized(images), images)
    if config.invert:
        images = torch.where((drawn_4B[3] < config.invert).view(-1, 1, 1, 1), 1 - images, images)
    return images


def edges_cut(theta: Tensor, share_4B: Tensor) -> Tensor:
    """The (B,2,3) maps of `affine`, followed by a cut of these shares of the side at the left, right, top and bottom.

    What is left fills the image.
    """
    left, right, top, bottom = share_4B
    sides = torch.stack([1 - left - right, 1 - top - bottom])
    return windowed(theta, sides, torch.stack([left - right, top - bottom]))


def windowed(theta: Tensor, sides_2B: Tensor, centre_2B: Tensor) -> Tensor:
    """The (B,2,3) maps followed by the choice of a window, across and down: its sides as shares, its centre in [-1, 1]."""
    turned = theta[:, :, :2] * sides_2B.T.unsqueeze(1)
    moved = torch.einsum("bij,jb->bi", theta[:, :, :2], centre_2B) + theta[:, :, 2]
    return torch.cat([turned, moved.unsqueeze(2)], dim=2)


def blurred(images: Tensor, deviation_B: Tensor, *, reach: int) -> Tensor:
    """A Gaussian blur of its own for each image; the picture goes on mirrored beyond its edges.

    Args:
        deviation_B: px; 0 leaves every bit as it is. reach: px on either side that the kernel holds, below S.
    """
    count, channels, side, _ = images.shape
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offsets / deviation_B.clamp_min(SHARPEST).unsqueeze(1)) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = F.pad(images.reshape(1, count * channels, side, side), (reach,) * 4, mode="reflect")
    across = F.conv2d(flat, weights[:, None, None, :], groups=count * channels)
    return F.conv2d(across, weights[:, None, :, None], groups=count * channels).view_as(images)


def equalized(images: Tensor) -> Tensor:
    """Every grey as common as any other, channel by channel, in 256 steps (torchvision's, which gives Pillow's numbers)."""
    from torchvision.transforms.v2 import functional

    equal: Tensor = functional.equalize_image(images)
    return equal
