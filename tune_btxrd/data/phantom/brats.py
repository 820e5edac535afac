"""The volume phantom as a folder in BraTS's layout: `HGG/CASE/CASE_flair.nii.gz`, ..., `CASE_seg`, `name_mapping.csv`."""

from pathlib import Path

import nibabel
import numpy as np

from tune_btxrd.data.phantom.heads import Head, draw_head, plan_heads

__all__ = ["plan_heads", "write_head", "write_mapping"]
HEAD = 190.0  # mm, longest side of the grid


def write_head(head: Head, *, folder: Path, size: int, seed: int) -> None:
    """Draws one patient into `folder/GRADE/CASE/`, axes L P S as BraTS stores them."""
    drawn = draw_head(head, size=size, seed=seed)
    home = folder / head.grade / head.case
    home.mkdir(parents=True)
    side = HEAD / size
    affine = np.diag([-side, -side, side, 1.0])
    affine[:2, 3] = [side * (count - 1) for count in drawn.mask.shape[:2]]
    for name, voxels in {**drawn.contrasts, "seg": drawn.mask}.items():
        image = nibabel.Nifti1Image(voxels[::-1, ::-1], affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, home / f"{head.case}_{name}.nii.gz")


def write_mapping(folder: Path, heads: list[Head]) -> None:
    """`name_mapping.csv`: the grade of each case."""
    rows = "".join(f"{head.grade},{head.case}\n" for head in heads)
    (folder / "name_mapping.csv").write_text(f"Grade,Phantom_subject_ID\n{rows}", encoding="utf-8")
