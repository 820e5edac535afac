"""Measures of volumes: what their headers say, how much of each is foreground, a perceptual hash that finds near-duplicates.

N volumes of S x S x S voxels, K channels, B hash bits.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import fft

from tune_btxrd.data.audit.shortcuts import Feature
from tune_btxrd.data.cache.volume_files import VolumeHeader, read_volume_header
from tune_btxrd.data.cache.volumes import resize_weights
from tune_btxrd.data.manifest import Manifest

FEATURES = ("volume shape", "spacing", "axes and type")
FOREGROUND = "foreground"
HASH_SIDE, HASH_BITS = 32, 8  # voxels that are hashed; frequencies per axis, 512 bits
NEAR = 40  # of 512 bits may differ; noisy copies differ in 0-28, brains of two patients in 58 or more
ANISOTROPIC = 1.5  # longest over shortest side of a voxel
ALIKE = 0.05  # share by which spacings may differ and still count as one
WORKERS = 8  # threads that mostly wait for the disk


def volume_headers(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> dict[str, VolumeHeader]:
    """Id -> header of the first channel that is there; one that is unreadable says why. Other channels lie on its grid."""
    files = {i: file for i, file in zip(manifest.image_ids, manifest.files, strict=True) if file is not None}
    headers: dict[str, VolumeHeader] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for image_id, header in zip(files, pool.map(read_volume_header, files.values()), strict=True):
            headers[image_id] = header
            if progress is not None:
                progress(len(headers), len(files))
    return headers


def header_features(headers: Sequence[VolumeHeader]) -> list[Feature]:
    """Shape, spacing, and axes with the type of the voxels: traces of the scanner and of who prepared the files."""
    shapes, spacings = _shapes(headers), _spacings(headers)
    kinds = np.array([f"{header.axes} {header.dtype}" for header in headers])
    shape, spacing, kind = FEATURES
    return [
        Feature(name=shape, numbers=np.array([header.shape for header in headers], dtype=np.float64), values=shapes),
        Feature(name=spacing, numbers=np.array([header.spacing for header in headers], dtype=np.float64), values=spacings),
        Feature(name=kind, numbers=(kinds[:, None] == np.unique(kinds)).astype(np.float64), values=kinds),
    ]


def grids(headers: Mapping[str, VolumeHeader]) -> dict[str, dict[str, int]]:
    """Shape, spacing, axes and type -> the values that occur and how many volumes have each, most frequent first."""
    readable = [header for header in headers.values() if not header.unreadable]
    if not readable:
        return {}
    counted = {
        feature.name: Counter(map(str, feature.values))
        for feature in header_features(readable)
        if feature.values is not None
    }
    return {name: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) for name, counts in counted.items()}


def spacing_note(headers: Mapping[str, VolumeHeader], spacing: float | None) -> str:
    """What to say where voxels are not alike and nothing makes them so, or ""."""
    sides = np.array([header.spacing for header in headers.values() if not header.unreadable])
    if spacing is not None or not len(sides):
        return ""
    if (sides.max(axis=0) > sides.min(axis=0) * (1 + ALIKE)).any():
        return "voxel sizes differ between patients, so one shape looks different: --spacing 1.0 makes them alike"
    if sides.max() > ANISOTROPIC * sides.min():
        return "voxels are longer along one axis, and so are shapes: --spacing 1.0 gives them their proportions"
    return ""


def measure_volumes(
    images: np.ndarray, rows: Sequence[int], *, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Foreground numbers (N, 4) float64 and perceptual hashes (N, B) bool.

    Args:
        images: decoded volumes (M, S, S, S, K) uint8.
        rows: the N rows to measure.
        progress: called with (volumes done, N).
    """
    foreground, hashes = [], []
    for row in rows:
        cube = np.asarray(images[row])
        foreground.append(foreground_numbers(cube))
        hashes.append(volume_hash(cube))
        if progress is not None:
            progress(len(hashes), len(rows))
    return np.array(foreground), np.array(hashes)


def foreground_numbers(cube: np.ndarray) -> np.ndarray:
    """(4,): the share of voxels that are foreground in any channel, and the sides of its box as shares of the cube."""
    filled: np.ndarray = np.any(cube > 0, axis=-1)
    sides = [np.any(filled, axis=tuple(other for other in range(3) if other != axis)).mean() for axis in range(3)]
    return np.array([filled.mean(), *sides])


def volume_hash(cube: np.ndarray) -> np.ndarray:
    """(B,) bool: signs of the low frequencies of the channels' mean around their median, as `imagehash.phash` does in 2D."""
    small = cube.mean(axis=-1, dtype=np.float32)
    for axis in range(3):
        weights = resize_weights(small.shape[axis], HASH_SIDE)
        small = np.moveaxis(np.tensordot(weights, small, axes=(1, axis)), 0, axis)
    low = fft.dctn(small)[:HASH_BITS, :HASH_BITS, :HASH_BITS].ravel()
    return np.asarray(low > np.median(low))


def _shapes(headers: Sequence[VolumeHeader]) -> np.ndarray:
    return np.array([f"{'x'.join(map(str, header.shape))} voxels" for header in headers])


def _spacings(headers: Sequence[VolumeHeader]) -> np.ndarray:
    return np.array([f"{'x'.join(f'{side:.3g}' for side in header.spacing)} mm" for header in headers])
