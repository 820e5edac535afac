"""Adding: the images of a folder enter a store, each content once, however often and from wherever it is added."""

import hashlib
import os
import stat
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from PIL import Image

from tune_btxrd.data.audit.headers import read_header
from tune_btxrd.data.readers.file_rules import is_image, walk
from tune_btxrd.data.readers.names import LONGEST_NAME, check_id, examples
from tune_btxrd.errors import DataError
from tune_btxrd.files import file_sha256
from tune_btxrd.labels.database import Row
from tune_btxrd.labels.grouping import ByHeader, Grouping, Place
from tune_btxrd.labels.insertion import ALONE, alone
from tune_btxrd.labels.records import NewImage
from tune_btxrd.labels.store import LabelStore

BLOCK = 512  # images in one transaction
CHUNK = 32  # files that a thread takes at once
AT_ONCE = 64 << 20  # bytes of a file that are read at once, and no second time for the header
NOTHING = (0, 0, "")  # is known of a file
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Added:
    """What adding a folder did; numbers of images."""

    files: int  # images below the folder
    new: int
    holdout: int  # of the new ones
    moved: int  # known ones whose file was found at another path
    copies: int  # files with the content of another one that is there
    missing: int  # known below this folder, and not there any more
    regrouped: int  # known ones that keep the group they were added with, although another is said now
    unnamed: int  # files that the table of groups does not name; they were not added
    twins: tuple[str, ...] = ()  # copies that another group was said for: "copy of GROUP is IMAGE of GROUP"
    torn: int = 0  # of these: with one group in the hold-out and one outside
    broken: tuple[str, ...] = ()  # path and reason of files that are no readable image; they were not added


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """A file that may be an image; `stored`: its path as the store has it."""

    path: Path
    stored: str
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A file with its content's hash, or why it is no image."""

    file: _File
    image: NewImage | None
    reason: str = ""


def add_folder(
    store: LabelStore, folder: Path, *, grouping: Grouping | None = None, progress: Progress | None = None
) -> Added:
    """Adds every image below a folder. Adding it again adds what is new and finds again what has moved.

    An image that is known is one with the same bytes. Files whose path, size and time of change are as they were are
    not read again. What a store has when the call is interrupted stays; the same call goes on.

    Args:
        grouping: which images belong together; default: DICOM files by their patient, others alone.
        progress: called with (done, total).

    Raises:
        DataError: a folder that is not there or cannot be read, no image in it, a path that does not fit the grouping.
    """
    home = _require_folder(folder)
    rule = grouping or ByHeader(salt=store.salt)
    paths = [found.path for found in walk(home) if not found.no_data and is_image(found.path)]
    if not paths:
        raise DataError(f"The folder must hold images, but there is none below {folder}: check the path.")
    files = [
        _File(path=path, stored=store_path(path, store.folder), place=place)
        for path in paths
        if (place := rule.place_of(path)) is not None
    ]
    if not files:
        raise DataError(
            f"The table of groups must name images of the folder, but names none of {len(paths):,} below {folder} "
            f"({examples([path.name for path in paths])}): write paths relative to the table or to the folder."
        )
    known = _Known(store)
    stale = [file for file in files if not known.is_unchanged(file)]
    broken: list[str] = []
    inserted: list[int] = []
    for block in _read_all(stale):
        broken += [f"{read.file.path.relative_to(home)}: {read.reason}" for read in block if read.image is None]
        images = [read.image for read in block if read.image is not None]
        new = [image for image in images if known.is_new(image)]
        inserted += store.insert_images(new)
        store.relocate_images([image for image in images if known.is_elsewhere(image)])
        if progress is not None:
            progress(len(files) - len(stale) + known.seen + len(broken), len(files))
    return Added(
        files=len(paths),
        new=len(inserted),
        holdout=_count_holdout(store, inserted),
        moved=known.moved,
        copies=known.copies,
        missing=known.note_missing(home, {store_path(path, store.folder) for path in paths}),
        regrouped=known.count_regrouped(files),
        unnamed=len(paths) - len(files),
        twins=tuple(known.twins),
        torn=known.torn,
        broken=tuple(broken),
    )


def require_some_read(added: Added, folder: Path) -> None:
    """Raises: DataError where not one file is a readable image."""
    if len(added.broken) == added.files:
        raise DataError(
            f"The folder must hold readable images, but all {added.files:,} below {folder} are broken "
            f"({examples(added.broken)}): check what was copied."
        )


def store_path(file: Path, folder: Path) -> str:
    """A file's path relative to the store's folder, with /."""
    place, name = os.path.split(file)  # pathlib takes as long as SQLite here
    below = _relative(place, str(folder))
    return name if below == "." else f"{below}/{name}"


@lru_cache(maxsize=64)  # files of one folder follow one another
def _relative(place: str, folder: str) -> str:
    return Path(os.path.relpath(place, folder)).as_posix()


class _Known:
    """What the store knows of files, by content and by path, kept up to date while a folder is added."""

    def __init__(self, store: LabelStore) -> None:
        self.store = store
        self.seen = self.moved = self.copies = self.torn = 0
        self.twins: list[str] = []
        rows = store.database.rows("SELECT sha256, path, size, mtime, group_name FROM images WHERE missing = 0")
        self.file_at = {path: (size, mtime, sha256) for sha256, path, size, mtime, _ in rows}
        self.group_of: dict[str, str] = dict(store.database.rows("SELECT sha256, group_name FROM images"))
        self.path_of: dict[str, str] = dict(store.database.rows("SELECT sha256, path FROM images"))

    def is_unchanged(self, file: _File) -> bool:
        """Whether a file is known at this path with its size and time of change."""
        known = self.file_at.get(file.stored)
        return known is not None and known[:2] == _stat(file.path)

    def is_new(self, image: NewImage) -> bool:
        """Whether no image has this content; from now on one has."""
        self.seen += 1
        if image.sha256 in self.path_of:
            return False
        self._note(image)
        self.group_of[image.sha256] = image.group or alone(image.sha256)
        return True

    def is_elsewhere(self, image: NewImage) -> bool:
        """Whether the store must learn that a known image lies here: it was moved or touched, and is no copy."""
        before = self.path_of[image.sha256]
        if self.file_at.get(image.path) == (image.size, image.mtime, image.sha256):
            return False  # it is new, or a copy under the very path
        if before != image.path:
            if self._is_there(image.sha256, before):
                self.copies += 1
                self._note_twin(image, before)
                return False
            self.moved += 1
        self._note(image)
        return True

    def _note_twin(self, image: NewImage, before: str) -> None:
        """A copy that lies under another group than the image that it is: one patient under two names, or a mistake."""
        kept = self.group_of[image.sha256]
        if not image.group or image.group == kept:
            return
        self.twins.append(f"{image.path} of {image.group} is {before} of {'no group' if kept.startswith(ALONE) else kept}")
        self.torn += self.store.is_held_out(image.group) != self.store.is_held_out(kept)

    def note_missing(self, home: Path, listed: Set[str]) -> int:
        """Marks the images that should lie below `home`, where these paths do, and do not; returns how many anew."""
        below = f"{store_path(home, self.store.folder)}/".removeprefix("./")
        lost: list[Row] = [
            (number,)
            for number, sha256, path in self.store.database.rows("SELECT image, sha256, path FROM images WHERE missing = 0")
            if path.startswith(below) and not (path in listed and self.file_at.get(path, NOTHING)[2] == sha256)
        ]
        if lost:
            with self.store.database.writing():
                self.store.database.run_many("UPDATE images SET missing = 1 WHERE image = ?", lost)
        return len(lost)

    def count_regrouped(self, files: Sequence[_File]) -> int:
        """Images that keep their group although another is said now."""
        said = {file.stored: file.place.group for file in files if file.place.group}
        known = [(self.group_of.get(sha256), said.get(path)) for path, (_, _, sha256) in self.file_at.items()]
        return sum(group is not None and now is not None and group != now for group, now in known)

    def _is_there(self, sha256: str, path: str) -> bool:
        """Whether a file lies at the path that is not known to hold something else."""
        known = self.file_at.get(path)
        file = Path(self.store.folder, path)
        return known is not None and known[2] == sha256 and file.is_file() and _stat(file) == known[:2]

    def _note(self, image: NewImage) -> None:
        self.path_of[image.sha256] = image.path
        self.file_at[image.path] = (image.size, image.mtime, image.sha256)


def _stat(file: Path) -> tuple[int, int]:
    status = os.stat(file)  # noqa: PTH116
    return status.st_size, status.st_mtime_ns


def _require_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"A folder of images must exist, but there is none at {folder}: check the path.")
    return folder.resolve()


def _read_all(files: Sequence[_File]) -> Iterator[list[_Read]]:
    """Every file read, in blocks; several at a time, and the next block while the store takes one."""
    Image.init()  # before the threads, which would all do it
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        waiting = deque[Iterator[list[_Read]]]()
        for start in range(0, len(files), BLOCK):
            chunks = [files[at : at + CHUNK] for at in range(start, min(start + BLOCK, len(files)), CHUNK)]
            waiting.append(pool.map(_read_some, chunks))  # begins at once
            if len(waiting) > 1:
                yield list(chain.from_iterable(waiting.popleft()))
        for block in waiting:
            yield list(chain.from_iterable(block))


def _read_some(files: Sequence[_File]) -> list[_Read]:
    return [_read(file) for file in files]


def _read(file: _File) -> _Read:
    """The content's hash, and whether its header is an image's; no pixel is decoded."""
    path, place = file.path, file.place
    if not str(path).isprintable():
        return _Read(file=file, image=None, reason="its path has characters that are not printable or not UTF-8")
    try:
        check_id(path.name[:LONGEST_NAME].strip(), "The name of an image")
        status = os.stat(path)  # noqa: PTH116
        is_whole = stat.S_ISREG(status.st_mode) and status.st_size <= AT_ONCE
        data = path.read_bytes() if is_whole else None
        if reason := read_header(path, data).unreadable:
            return _Read(file=file, image=None, reason=reason)
        sha256 = file_sha256(path) if data is None else hashlib.sha256(data).hexdigest()
    except OSError as error:
        return _Read(file=file, image=None, reason=str(error.strerror))
    except DataError as error:
        return _Read(file=file, image=None, reason=str(error))
    image = NewImage(
        path=file.stored,
        sha256=sha256,
        size=status.st_size,
        mtime=status.st_mtime_ns,
        group=place.group,
        center=place.center,
    )
    return _Read(file=file, image=image)


def _count_holdout(store: LabelStore, numbers: Sequence[int]) -> int:
    chosen = {row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")}
    return len(chosen.intersection(numbers))
