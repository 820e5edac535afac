"""File rules: which files of a folder are images, which are no data, and the account of all of them."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tune_btxrd.data.cache.dicom_files import ENDINGS as DICOM_ENDINGS
from tune_btxrd.data.cache.dicom_files import begins_as_picture, may_be_dicom
from tune_btxrd.errors import DataError

READABLE = frozenset(  # how the names of images end that the decoder reads
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
        *DICOM_ENDINGS,
    )
)
SYSTEM_NAMES = frozenset(  # left by operating systems, archives and notebooks; lower case
    (
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"),
        *("__pycache__", "lost+found"),
    )
)


def is_no_data(name: str) -> bool:
    """Whether a file or folder of this name is no data, at whatever depth: hidden, or left by a system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image(path: Path) -> bool:
    """Whether a file's name ends as an image's; one without an ending is an image where it begins as a DICOM file."""
    return path.suffix.lower() in READABLE or (may_be_dicom(path) and begins_as_picture(path))


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a folder; `no_data` is the first name on its way (its own or a folder's) that is no data, or ""."""

    path: Path
    no_data: str = ""


def walk(folder: Path, *, no_data: str = "", above: frozenset[Path] = frozenset()) -> Iterator[Found]:
    """Every file below `folder` in order of their names, those that are no data too. Links to folders are followed once.

    Raises:
        DataError: a folder with data in it cannot be listed.
    """
    home = folder.resolve()
    if home in above:
        return
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if no_data:
            return
        raise DataError(f"{folder} must be readable, but is not ({error.strerror}): change its permissions.") from error
    for entry in listed:
        reason = no_data or (entry.name if is_no_data(entry.name) else "")
        if entry.is_dir():
            yield from walk(folder / entry.name, no_data=reason, above=above | {home})
        else:
            yield Found(folder / entry.name, reason)


def images_below(folder: Path) -> list[Path]:
    """The images below a folder, in order of their paths, without what is no data."""
    return sorted(
        found.path for found in walk(folder) if not found.no_data and is_image(found.path) and found.path.is_file()
    )


def account(root: Path, *, taken: Collection[Path], used: Collection[Path] = ()) -> str:
    """One line on every file below `root`: how many were taken, and what the others are.

    Args:
        taken: the images of the dataset, links resolved.
        used: what else was read: tables, annotations.
    """
    images, others, known = set(taken), Counter[str](), set(used)
    endings = Counter(_ending(path) or "no ending" for path in images)
    for found in walk(root):
        path = found.path.resolve()
        if path not in images and path not in known:
            others[_kind(found)] += 1
    left = [f"{count:,} {kind}" for kind, count in sorted(others.items(), key=lambda item: (-item[1], item[0]))]
    return f"Files: {'; '.join([f'{_listed(endings)}: taken', *left])}."


def _listed(endings: Counter[str]) -> str:
    ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {ending}" for ending, count in ordered) or "0"


def _kind(found: Found) -> str:
    """What a file is that was not taken: of the no-data rule's kinds, an image, or by its ending."""
    name = found.no_data
    if name.startswith("._"):
        return "._ files"
    if name.startswith("."):
        return "hidden" if found.path.name == name else f"in {name}"
    if name:
        return name if found.path.name == name else f"in {name}"
    ending = _ending(found.path) or "without ending"
    return f"{ending} that are not in the dataset" if is_image(found.path) else ending


def _ending(path: Path) -> str:
    """Lower case; of a packed file with what is packed: `.nii.gz`."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return "".join(endings) if len(endings) == 2 and endings[-1] == ".gz" else path.suffix.lower()
