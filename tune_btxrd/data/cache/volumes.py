"""Decoder of volumes: the channels of one patient as a uint8 cube, cropped to the foreground, aspect kept, z-scored.

The background of a channel is 0, or the one value in all its corners; what is not finite is background too. The cube's
bytes depend on the files' bytes, channels, size, spacing and the versions of nibabel and SciPy (pydicom), on nothing else.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.decode import Decoded, UnreadableError
from tune_btxrd.data.cache.hashes import sample_sha256
from tune_btxrd.data.cache.volume_files import Volume, read_volume, same_grid

VERSION = 1  # raise it with every change of what this file computes
CLIP = 5.0  # standard deviations from the mean of the foreground that 8 bits span to both sides
LEVELS = 254.0  # 1..255 are foreground, 0 is background
SAME_SPACING = 0.01  # share by which a spacing may differ and still need no resampling


@dataclass(frozen=True, slots=True)
class VolumeJob:
    """One patient's files on their way into a cache.

    Attributes:
        files: one per channel, None where the patient lacks it (zeros).
        sha256: of all of them (`hashes.sample_sha256`).
        spacing: mm to resample to; None: as stored.
    """

    image_id: str
    files: tuple[Path | None, ...]
    sha256: str | None
    channels: tuple[str, ...]
    spacing: float | None

    def decode(self, image_sizes: Sequence[int]) -> "tuple[Decoded, ...] | str":
        """The cube at each size, or the reason why there is none."""
        if self.sha256 is None:
            return "has no file"
        try:
            if sample_sha256(self.files) != self.sha256:
                return "has changed since it was hashed"
            cubes, notes = volume_cubes(self.files, image_sizes, channels=self.channels, spacing=self.spacing)
            return tuple(_rounded(levels, notes) for levels in cubes)
        except UnreadableError as error:
            return str(error.reason)
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"


def volume_cache_name(
    image_size: int,
    files: Sequence[tuple[str, str | None]],
    *,
    channels: Sequence[str],
    spacing: float | None,
    dicom: bool,
) -> str:
    """The folder name decided by what decides the bytes (`cache.cache_name` for images); `dicom`: whether any are."""
    libraries = ("nibabel", "scipy", "pydicom") if dicom else ("nibabel", "scipy")
    versions = "-".join(f"{name}{importlib.metadata.version(name)}" for name in libraries)
    rule = hashlib.sha256(json.dumps([list(channels), spacing]).encode()).hexdigest()[:8]
    return (
        f"volumes-{image_size}px-v{VERSION}-{versions}-{rule}-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]}"
    )


def decode_volume(
    files: Sequence[Path | None], image_size: int, *, channels: Sequence[str], spacing: float | None = None
) -> Decoded:
    """uint8 (S, S, S, K) with axes R, A, S and the channels in order; see `volume_levels`.

    Raises:
        UnreadableError: a file is unreadable or shows nothing; its name is in the reason where there are several.
    """
    return _rounded(*volume_levels(files, image_size, channels=channels, spacing=spacing))


def _rounded(levels: np.ndarray, notes: Sequence[str]) -> Decoded:
    return Decoded(np.rint(levels).astype(np.uint8), "; ".join(notes))


def volume_levels(
    files: Sequence[Path | None], image_size: int, *, channels: Sequence[str], spacing: float | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """float32 (S, S, S, K) in [0, 255], and what to say of how it was made.

    Per channel: axes to R, A, S, background to 0; onto the grid of the first channel where it has another; to `spacing` mm
    where it is given; then the smallest box with the foreground of all channels; z-score of the foreground, clipped to
    +-CLIP, on 1..255; the box shrunk or enlarged to S on its longest side, in the middle of zeros.

    Raises:
        UnreadableError: as `decode_volume`.
    """
    cubes, notes = volume_cubes(files, (image_size,), channels=channels, spacing=spacing)
    return cubes[0], notes


def volume_cubes(
    files: Sequence[Path | None], image_sizes: Sequence[int], *, channels: Sequence[str], spacing: float | None = None
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """`volume_levels` at each of several sizes; the files are read once."""
    parts, box, notes = _cropped(files, channels, spacing)
    cubes = [np.zeros((image_size,) * 3 + (len(channels),), dtype=np.float32) for image_size in image_sizes]
    for index, part in enumerate(parts):
        if part is not None:
            scored = _scored(part.voxels[box])
            for cube, image_size in zip(cubes, image_sizes, strict=True):
                _place(cube[..., index], _resized(scored, image_size))
    return cubes, notes


def cube_affine(
    files: Sequence[Path | None], image_size: int, *, channels: Sequence[str], spacing: float | None = None
) -> np.ndarray:
    """(4, 4): voxel indices of the cube that `volume_levels` makes of these files -> mm, as the files have them.

    Raises:
        UnreadableError: as `decode_volume`.
    """
    parts, box, _ = _cropped(files, channels, spacing)
    first = next(part for part in parts if part is not None)
    sides = [inner.stop - inner.start for inner in box]
    to_grid = np.eye(4)
    for axis, (inner, before) in enumerate(zip(box, sides, strict=True)):
        after = _resized_side(before, max(sides), image_size)
        step, start = before / after, (image_size - after) // 2
        to_grid[axis, axis] = step
        to_grid[axis, 3] = inner.start + 0.5 * step - 0.5 - start * step
    return np.asarray(first.affine @ to_grid)


def _cropped(
    files: Sequence[Path | None], channels: Sequence[str], spacing: float | None
) -> tuple[list[Volume | None], tuple[slice, ...], tuple[str, ...]]:
    """Every channel on one grid, the smallest box with the foreground of all, and notes."""
    read, notes = _channels(files, channels)
    parts = [None if volume is None else _at_spacing(volume, spacing) for volume in read]
    boxes = [np.abs(part.voxels) > 0 for part in parts if part is not None]
    return parts, _box(np.logical_or.reduce(boxes)), notes


def _resized_side(before: int, longest: int, image_size: int) -> int:
    return max(1, round(before * image_size / longest))


def resize_weights(before: int, after: int) -> np.ndarray:
    """(after, before) float32: each new sample as a weighted mean of old ones, a triangle wide enough to leave none out."""
    step = before / after
    width = max(step, 1.0)
    centers = (np.arange(after) + 0.5) * step - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(before) - centers[:, None]) / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _channels(files: Sequence[Path | None], channels: Sequence[str]) -> tuple[list[Volume | None], tuple[str, ...]]:
    """Every channel on the grid of the first that is there, background 0, and the notes on all of them."""
    read: list[Volume | None] = []
    notes: list[str] = []
    first: Volume | None = None
    for file, channel in zip(files, channels, strict=True):
        if file is None:
            read.append(None)
            notes.append(f"{channel} is missing: zeros")
            continue
        volume = read_volume(file)
        volume, found = _without_background(file.name, volume)
        notes += [f"{channel}: {note}" for note in (*volume.notes, *found)]
        if first is None:
            first, owner = volume, channel
        elif not same_grid(first, volume):
            volume = _on_grid(file.name, volume, first)
            notes.append(f"{channel}: resampled to the grid of {owner}")
        read.append(volume)
    return read, tuple(notes)


def _without_background(name: str, volume: Volume) -> tuple[Volume, list[str]]:
    """The same with background 0 and numbers only."""
    voxels, finite = volume.voxels, np.isfinite(volume.voxels)
    if not finite.any():
        raise UnreadableError(name, "holds no number (NaN everywhere)")
    ends = voxels[:: voxels.shape[0] - 1, :: voxels.shape[1] - 1, :: voxels.shape[2] - 1]
    constant = bool((ends == ends.flat[0]).all()) and np.isfinite(ends.flat[0])
    background = float(ends.flat[0]) if constant else 0.0
    shifted = np.where(finite, voxels - background, 0.0)
    if not shifted.any():
        raise UnreadableError(name, "is zero everywhere" if not voxels[finite].any() else f"is constant ({background:g})")
    return replace(volume, voxels=shifted), [] if finite.all() else ["voxels that are no numbers are background"]


def _on_grid(name: str, volume: Volume, first: Volume) -> Volume:
    placed = _resampled(volume, first.voxels.shape, first.affine)
    if not placed.voxels.any():
        raise UnreadableError(name, "lies elsewhere than the patient's first channel: no voxel is shared")
    return placed


def _at_spacing(volume: Volume, spacing: float | None) -> Volume:
    """The same at `spacing` mm per voxel along its own axes."""
    if spacing is None:
        return volume
    sides = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.allclose(sides, spacing, rtol=SAME_SPACING, atol=0.0):
        return volume
    shape = tuple(
        max(2, round(float(count * side / spacing))) for count, side in zip(volume.voxels.shape, sides, strict=True)
    )
    affine = volume.affine.copy()
    affine[:3, :3] *= spacing / sides
    affine[:3, 3] += volume.affine[:3, :3] @ ((spacing / sides - 1) / 2)  # the outer faces stay where they are
    return _resampled(volume, shape, affine)


def _resampled(volume: Volume, shape: Sequence[int], affine: np.ndarray) -> Volume:
    """On another grid, linear between voxels, 0 outside."""
    import nibabel
    from nibabel.processing import resample_from_to

    image = nibabel.Nifti1Image(volume.voxels, volume.affine)
    placed = resample_from_to(image, (tuple(shape), affine), order=1, cval=0.0)
    return replace(volume, voxels=np.asarray(placed.dataobj, dtype=np.float64), affine=affine)


def _box(foreground: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all of it."""
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(foreground.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(sides)


def _scored(voxels: np.ndarray) -> np.ndarray:
    """float32: 0 where background, else 1..255 for a z-score of -CLIP..CLIP; a foreground of one value has the score 0."""
    inside = voxels != 0
    values = voxels[inside] / np.abs(voxels).max()  # no sum of squares overflows
    scores = np.clip((values - values.mean()) / (values.std() or 1.0), -CLIP, CLIP)
    levels = np.zeros(voxels.shape, dtype=np.float32)
    levels[inside] = 1 + (scores + CLIP) / (2 * CLIP) * LEVELS
    return levels


def _resized(levels: np.ndarray, image_size: int) -> np.ndarray:
    """The longest side S, the others in proportion."""
    longest = max(levels.shape)
    for axis in range(3):
        after = _resized_side(levels.shape[axis], longest, image_size)
        levels = np.moveaxis(np.tensordot(resize_weights(levels.shape[axis], after), levels, axes=(1, axis)), 0, axis)
    return levels


def _place(cube: np.ndarray, levels: np.ndarray) -> None:
    """Writes the levels into the middle of a cube."""
    starts = [(side - inner) // 2 for side, inner in zip(cube.shape, levels.shape, strict=True)]
    cube[tuple(slice(start, start + inner) for start, inner in zip(starts, levels.shape, strict=True))] = levels
