"""Where a model of volumes looks: heat per voxel, three planes through its peak, and NIfTI maps in the input's own space."""
# (shape suffixes: heat_SSS, cube_SSSK; S = side, K = channels)

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.cache.volume_files import Volume, read_volume, same_grid, stored_grid
from tune_btxrd.data.cache.volumes import cube_affine
from tune_btxrd.files import aside
from tune_btxrd.scoring.pointing import peak


def heat_of_volumes(model: nn.Module, layer: nn.Module, inputs: Tensor, classes: np.ndarray) -> np.ndarray:
    """(B, S, S, S) float32 heat in [0, 1] for the given class of each input: HiResCAM (Draelos and Carin, 2020).

    Not by the library that images use: it enlarges maps by splines from corner to corner, which moves what they show.
    """
    kept: list[Tensor] = []
    device = next(model.parameters()).device
    hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits = model(inputs.to(device))
    finally:
        hook.remove()
    asked = logits.gather(1, torch.as_tensor(classes, device=device).unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(asked, kept[-1])
    heat = (gradient * kept[-1].detach()).sum(dim=1, keepdim=True).clamp_min(0)
    heat = F.interpolate(heat, size=inputs.shape[2:], mode="trilinear", align_corners=False).squeeze(1)
    flat = heat.flatten(1)
    low, high = (end.reshape(-1, 1, 1, 1) for end in (flat.amin(dim=1), flat.amax(dim=1)))
    return np.asarray(((heat - low) / (high - low).clamp_min(1e-7)).float().cpu(), dtype=np.float32)


def three_planes(cube: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    """(S, 3S): the sagittal, coronal and axial plane of a cube (S, S, S) through a voxel, up or front at the top."""
    right, front, up = at
    planes = (cube[right], cube[:, front], cube[:, :, up])
    return np.concatenate([np.flipud(plane.T) for plane in planes], axis=1)


def flat(image: np.ndarray, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image and its heat as pictures: of a volume (S, S, S, K) three planes of its first channel, see `shown_voxel`."""
    if heat.ndim == 2:
        return image, heat
    at = shown_voxel(image, heat)
    return three_planes(image[..., 0], at), three_planes(heat, at)


def shown_voxel(image: np.ndarray, heat: np.ndarray) -> tuple[int, ...]:
    """The hottest voxel of a volume's foreground; the heat in its background is drawn, but no plane is laid through it."""
    inside = np.where(image.any(axis=-1), heat, 0)
    return peak(inside if inside.any() else heat)


def write_nifti(
    heat_SSS: np.ndarray,  # noqa: N803  # shape suffix
    path: Path,
    files: Sequence[Path | None],
    *,
    channels: Sequence[str],
    spacing: float | None,
) -> None:
    """The heat as NIfTI on the grid of the patient's first file as it is stored: the same shape and the same affine.

    Raises:
        UnreadableError: a file of the patient is gone or damaged.
    """
    import nibabel
    from nibabel.processing import resample_from_to

    affine = cube_affine(files, len(heat_SSS), channels=channels, spacing=spacing)
    grid = stored_grid(next(file for file in files if file is not None))
    placed = resample_from_to(nibabel.Nifti1Image(heat_SSS, affine), grid, order=1, cval=0.0)
    image = nibabel.Nifti1Image(np.asarray(placed.dataobj, dtype=np.float32), grid[1])
    with aside(path) as part:
        part.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def lesion_in_cube(
    mask: Path, files: Sequence[Path | None], side: int, *, channels: Sequence[str], spacing: float | None
) -> np.ndarray:
    """(side, side, side) bool: a lesion mask on the model's cube, nearest voxel.

    Raises:
        UnreadableError: a file is gone or damaged, or the mask lies on another grid than every file of the patient.
    """
    import nibabel
    from nibabel.processing import resample_from_to

    read = read_volume(mask)
    _require_own_grid(mask, read, files)
    affine = cube_affine(files, side, channels=channels, spacing=spacing)
    marked = nibabel.Nifti1Image((np.nan_to_num(read.voxels) > 0).astype(np.float32), read.affine)
    return np.asarray(resample_from_to(marked, ((side,) * 3, affine), order=0, cval=0.0).dataobj) > 0


def _require_own_grid(mask: Path, read: Volume, files: Sequence[Path | None]) -> None:
    """Raises UnreadableError where a mask's voxels lie elsewhere than those of the volume that it was drawn on.

    Placed by its own header it would mark another part of the head, or nothing, without a word.
    """
    volumes = [read_volume(file) for file in files if file is not None]
    if any(same_grid(volume, read) for volume in volumes):
        return
    shapes = [" x ".join(map(str, volume.voxels.shape)) for volume in (read, volumes[0])]
    found = f"{shapes[0]} voxels instead of {shapes[1]}" if len(set(shapes)) == 2 else "the same shape at another place"
    raise UnreadableError(mask.name, f"its grid is not that of the patient's volumes ({found}): resample it to one of them")
