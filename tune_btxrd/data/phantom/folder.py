"""The phantom as a folder: in BTXRD's layout `dataset.xlsx`, `images/`, `Annotations/`; of volumes in BraTS's."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from tune_btxrd.data.phantom.body import REGIONS
from tune_btxrd.data.phantom.cases import Case, plan_cases, table_of
from tune_btxrd.data.phantom.picture import draw_picture
from tune_btxrd.data.phantom.spec import PhantomSpec
from tune_btxrd.errors import DataError

T = TypeVar("T")
_MARK = "phantom.json"  # written last: a folder that has it is whole
_ALONE = 24  # up to so many images are drawn without worker processes, whose start would take longer


def make_phantom(root: Path, spec: PhantomSpec, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Draws the phantom into the folder `root`, or leaves it alone where the same phantom is already there.

    Written aside and renamed: a folder that exists is whole. Samples are drawn in parallel; each depends on its own seed.

    Raises:
        DataError: `root` exists and is something else.
    """
    if _is_there(root, spec):
        return
    aside = root.with_name(f".{root.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write(aside, spec, progress=progress)
        _move(aside, root, spec)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_there(root: Path, spec: PhantomSpec) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    mark = root / _MARK
    if mark.is_file() and json.loads(mark.read_text()) == spec.mark:
        return True
    found = mark.read_text().strip() if mark.is_file() else "no phantom"
    raise DataError(f"The phantom goes into a new folder, but {root} holds {found}: remove it or name another folder.")


def _move(aside: Path, root: Path, spec: PhantomSpec) -> None:
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
    try:
        aside.rename(root)
    except OSError:
        if not _is_there(root, spec):  # else: another process has just finished the same phantom
            raise


def _write(folder: Path, spec: PhantomSpec, *, progress: Callable[[int, int], None] | None) -> None:
    written = _write_volumes(folder, spec) if spec.kind == "volumes" else _write_images(folder, spec)
    for done, _ in enumerate(written, start=1):
        if progress is not None:
            progress(done, spec.count)
    (folder / _MARK).write_text(json.dumps(spec.mark) + "\n")


def _write_images(folder: Path, spec: PhantomSpec) -> Iterator[None]:
    for name in ("images", "Annotations"):
        (folder / name).mkdir(parents=True)
    cases = plan_cases(spec.count, size=spec.size, seed=spec.seed)
    table_of(cases, places=_places()).to_excel(folder / "dataset.xlsx", index=False, sheet_name="Sheet1")
    yield from _in_parallel(partial(_write_case, folder=folder, seed=spec.seed), cases)


def _write_volumes(folder: Path, spec: PhantomSpec) -> Iterator[None]:
    from tune_btxrd.data.phantom.brats import plan_heads, write_head, write_mapping  # they need nibabel

    heads = plan_heads(spec.count, seed=spec.seed)
    folder.mkdir(parents=True)
    write_mapping(folder, heads)
    yield from _in_parallel(partial(write_head, folder=folder, size=spec.size, seed=spec.seed), heads)


def _in_parallel(work: Callable[[T], None], cases: list[T]) -> Iterator[None]:
    """Does the work for every case, in processes when that pays."""
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    if len(cases) <= _ALONE or workers == 1:
        yield from map(work, cases)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, cases, chunksize=4)


def _write_case(case: Case, *, folder: Path, seed: int) -> None:
    """One image and, for a tumour, its annotation."""
    picture = draw_picture(case, seed=seed)
    picture.image.save(folder / "images" / case.image_id, format="JPEG", quality=picture.quality)
    if case.patient.tumour:
        path = (folder / "Annotations" / case.image_id).with_suffix(".json")
        path.write_text(json.dumps(_labelme(case, picture.outlines)))


def _labelme(case: Case, outlines: Iterable[np.ndarray]) -> dict[str, object]:
    """LabelMe's record: a box and a polygon per outline."""
    shapes: list[dict[str, object]] = []
    for outline in outlines:
        box = [outline.min(axis=0).tolist(), outline.max(axis=0).tolist()]
        for kind, points in (("rectangle", box), ("polygon", outline.tolist())):
            shape = {"label": case.patient.tumour, "points": points, "group_id": None, "description": "", "shape_type": kind}
            shapes.append({**shape, "flags": {}, "mask": None})
    return {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": case.image_id, "imageData": None,
        "imageHeight": case.height, "imageWidth": case.width,
    }  # fmt: skip


def _places() -> dict[str, tuple[tuple[str, str, str], ...]]:
    """Region -> the table columns of its lesion sites."""
    return {
        region: tuple((site.column, site.joint, site.limb) for site in frontal(0.0).sites)
        for region, (frontal, _) in REGIONS.items()
    }
