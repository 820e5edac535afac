"""uint8 images -> augmented, normalised float batches, on the device. A pure function of batch and generator.

Shapes: B = batch, H = W = S px, K = 1 (grey) or 3 channels.
"""
# ruff: noqa: N803, N806
# (shape suffixes: logits_BC)

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd.config import TrainConfig
from tune_btxrd.training.augment.scanners import DRAWS, as_scanned, edges_cut, scans, windowed

YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # RGB -> brightness and two axes of colour


def to_float(images: Tensor) -> Tensor:
    """uint8 (B,S,S) or (B,S,S,3) -> float32 (B,K,S,S) in [0, 1]."""
    images_BHWK = images.unsqueeze(-1) if images.ndim == 3 else images
    return images_BHWK.permute(0, 3, 1, 2).float().div_(255)


def normalise(images_BKHW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std with (3,) mean and std; grey becomes three channels. (B,3,S,S), dense in channels_last."""
    images_BHWK = images_BKHW.permute(0, 2, 3, 1)
    return torch.addcmul(-mean / std, images_BHWK, 1 / std).permute(0, 3, 1, 2)


def augment(images: Tensor, generator: torch.Generator, config: TrainConfig) -> Tensor:
    """The augmented batch: mirror; rotation, scale, shift, crop, cut edges in one resampling; the look of another scanner;
    brightness, contrast; colour; erasing.

    Every image always draws the same numbers (seven, eleven more where crop, colour, erasing or a scanner asks for them, and
    DRAWS more for a scanner), so switching one kind off leaves the others of the batch as they were. A kind of range (or
    probability) 0 is skipped and leaves every bit as it was; flip = 1 alone is the exact mirror.

    Args:
        images: float (B,K,S,S) in [0, 1]; not changed.
        generator: on the same device; the only source of randomness.
        config: flip, rotation, scale_min, shift, crop_min, border, blur, gamma, equalize, invert, brightness, contrast,
            saturation, hue and erasing are read.
    """
    drawn_7B = torch.rand(7, len(images), generator=generator, device=images.device)
    signed_7B = 2 * drawn_7B - 1
    crops, colours, scanned = config.crop_min < 1, config.saturation > 0 or config.hue > 0, scans(config)
    more_11B, scanner_8B = (drawn_7B.new_zeros(count, len(images)) for count in (11, DRAWS))
    if crops or colours or config.erasing or scanned:
        more_11B = torch.rand(11, len(images), generator=generator, device=images.device)
    if scanned:
        scanner_8B = torch.rand(DRAWS, len(images), generator=generator, device=images.device)
    if config.flip:
        images = torch.where((drawn_7B[0] < config.flip).view(-1, 1, 1, 1), images.flip(-1), images)
    if config.rotation or config.shift or config.scale_min < 1 or crops or config.border:
        scale = 1 - (1 - config.scale_min) * drawn_7B[2]
        theta = affine(signed_7B[1] * config.rotation, scale, signed_7B[3:5] * config.shift)
        theta = edges_cut(theta, scanner_8B[:4] * config.border) if config.border else theta
        images = resample(images, cropped(theta, more_11B[:4], smallest=config.crop_min) if crops else theta)
    if scanned:
        images = as_scanned(images, scanner_8B[4:], config)
    if config.brightness or config.contrast:
        images = jitter(images, 1 + signed_7B[5] * config.brightness, 1 + signed_7B[6] * config.contrast)
    if colours and images.shape[1] == 3:
        signed = 2 * more_11B[4:6] - 1
        images = recolour(images, 1 + signed[0] * config.saturation, signed[1] * config.hue)
    if config.erasing:
        images = erase(images, more_11B[6] < config.erasing, more_11B[7:])
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


def cropped(theta: Tensor, drawn_4B: Tensor, *, smallest: float) -> Tensor:
    """The (B,2,3) maps of `affine` followed by a random resized crop (Szegedy et al., CVPR 2015, sec. 6).

    Args:
        drawn_4B: area, aspect, place across, place down, in [0, 1).
        smallest: share of the area that a crop keeps at least; aspects lie between 3:4 and 4:3.
    """
    area = 1 - (1 - smallest) * drawn_4B[0]
    half = torch.exp((2 * drawn_4B[1] - 1) * math.log(4 / 3)).sqrt()
    sides = torch.stack([area.sqrt() * half, area.sqrt() / half]).clamp_max(1)  # width, height: shares of the side
    centre = (2 * drawn_4B[2:] - 1) * (1 - sides)  # in [-1, 1], so that the crop stays inside
    return windowed(theta, sides, centre)


def recolour(images: Tensor, saturation: Tensor, degrees: Tensor) -> Tensor:
    """RGB (B,3,S,S) with its (B,) colourfulness and hue changed, brightness kept, clamped to [0, 1].

    In YIQ, where Y is brightness and (I, Q) a plane of colours: times `saturation`, turned by `degrees`.
    """
    yiq = torch.tensor(YIQ, device=images.device)
    angle = degrees * (math.pi / 180)
    cos, sin, one, zero = saturation * angle.cos(), saturation * angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", torch.linalg.inv(yiq) @ turn @ yiq, images).clamp(0, 1)


def erase(images: Tensor, chosen: Tensor, drawn_4B: Tensor) -> Tensor:
    """The (B,) chosen images with a rectangle of their own mean value in them (Zhong et al., AAAI 2020, random erasing).

    Args:
        drawn_4B: area (2 to 33 % of the image), aspect (3:10 to 10:3), place across, place down, in [0, 1).
    """
    side = images.shape[-1]
    area = 0.02 + 0.31 * drawn_4B[0]
    half = torch.exp((2 * drawn_4B[1] - 1) * math.log(10 / 3)).sqrt()
    sides = torch.stack([area.sqrt() * half, area.sqrt() / half]).clamp_max(1)
    start = (1 - sides) * drawn_4B[2:]
    places = (torch.arange(side, device=images.device) + 0.5) / side  # middles of the pixels
    inside = (places >= start.unsqueeze(2)) & (places < (start + sides).unsqueeze(2))  # (2, B, S): columns, rows
    mask = inside[0].unsqueeze(1) & inside[1].unsqueeze(2) & chosen.view(-1, 1, 1)
    return torch.where(mask.unsqueeze(1), images.mean(dim=(1, 2, 3), keepdim=True), images)


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last where it is faster (CPU, CUDA)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


class Images:
    """Square images, grey or RGB, as a SampleKind."""

    fewest = 16

    def accepts(self, samples: np.ndarray) -> bool:
        """uint8 (N, S, S) or (N, S, S, 3)."""
        square = samples.ndim in (3, 4) and samples.shape[1] == samples.shape[2]
        return samples.dtype == np.uint8 and square and samples.shape[3:] in ((), (3,))

    def side(self, samples: np.ndarray) -> int:
        """S."""
        return int(samples.shape[1])

    def pixels(self, samples: np.ndarray) -> int:
        """S * S."""
        return self.side(samples) ** 2

    def channels(self, samples: np.ndarray) -> None:
        """None: models take three, whatever the samples have."""

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
        """See the function of this name."""
        return memory_format(device)

    def blank(self, count: int, side: int, device: torch.device, *, channels: int | None = None) -> Tensor:
        """(count, 3, S, S); dense in channels_last, as `normalise` gives it."""
        return torch.zeros(count, 3, side, side, device=device).to(memory_format=torch.channels_last)


IMAGES = Images()
