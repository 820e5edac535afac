"""Adding: the images of a folder enter a store, each content once, however often and from wherever it is added."""

import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

from PIL import Image

from tune_btxrd.data.audit.headers import read_header
from tune_btxrd.data.readers.file_rules import is_image, walk
from tune_btxrd.data.readers.names import LONGEST_NAME, check_id, examples
from tune_btxrd.errors import DataError
from tune_btxrd.files import file_sha256
from tune_btxrd.labels.database import Row
from tune_btxrd.labels.grouping import DICOM_ENDINGS, ByHeader, Grouping, Place
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
    broken: tuple[str, ...] = ()  # path and reason of files that are no readable image; they were not added


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A file with its content's hash, or why it is no image."""

    file: Path
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
    files = [found.path for found in walk(home) if not found.no_data and _is_wanted(found.path)]
    if not files:
        raise DataError(f"The folder must hold images, but there is none below {folder}: check the path.")
    places = {file: place for file in files if (place := rule.place_of(file)) is not None}
    known = _Known(store)
    stale = [file for file in places if not known.is_unchanged(file)]
    broken: list[str] = []
    inserted: list[int] = []
    for block in _read_all(stale, store.folder):
        broken += [f"{read.file.relative_to(home)}: {read.reason}" for read in block if read.image is None]
        images = [_placed(read.image, places[read.file]) for read in block if read.image is not None]
        new = [image for image in images if known.is_new(image)]
        inserted += store.insert_images(new)
        store.relocate_images([image for image in images if known.is_elsewhere(image)])
        if progress is not None:
            progress(len(places) - len(stale) + known.seen + len(broken), len(places))
    return Added(
        files=len(files),
        new=len(inserted),
        holdout=_count_holdout(store, inserted),
        moved=known.moved,
        copies=known.copies,
        missing=known.note_missing(home, {store_path(file, store.folder) for file in files}),
        regrouped=known.count_regrouped(places),
        unnamed=len(files) - len(places),
        broken=tuple(broken),
    )


def require_all_read(added: Added, folder: Path) -> None:
    """Raises: DataError where files were left out because they are no readable images."""
    if added.broken:
        raise DataError(
            f"Every file that is called as an image must be one, but {len(added.broken)} of {added.files:,} below {folder} "
            f"are not ({examples(added.broken)}): mend or remove them. All others were added."
        )


def store_path(file: Path, folder: Path) -> str:
    """A file's path relative to the store's folder, with /."""
    below = _relative(file.parent, folder)
    return file.name if below == "." else f"{below}/{file.name}"


@lru_cache(maxsize=64)  # files of one folder follow one another
def _relative(place: Path, folder: Path) -> str:
    return Path(os.path.relpath(place, folder)).as_posix()


class _Known:
    """What the store knows of files, by content and by path, kept up to date while a folder is added."""

    def __init__(self, store: LabelStore) -> None:
        self.store = store
        self.seen = self.moved = self.copies = 0
        rows = store.database.rows("SELECT sha256, path, size, mtime, group_name FROM images WHERE missing = 0")
        self.file_at = {path: (size, mtime, sha256) for sha256, path, size, mtime, _ in rows}
        self.group_of: dict[str, str] = dict(store.database.rows("SELECT sha256, group_name FROM images"))
        self.path_of: dict[str, str] = dict(store.database.rows("SELECT sha256, path FROM images"))

    def is_unchanged(self, file: Path) -> bool:
        """Whether a file is known at this path with its size and time of change."""
        known = self.file_at.get(store_path(file, self.store.folder))
        return known is not None and known[:2] == _stat(file)

    def is_new(self, image: NewImage) -> bool:
        """Whether no image has this content; from now on one has."""
        self.seen += 1
        if image.sha256 in self.path_of:
            return False
        self._note(image)
        return True

    def is_elsewhere(self, image: NewImage) -> bool:
        """Whether the store must learn that a known image lies here: it was moved or touched, and is no copy."""
        before = self.path_of[image.sha256]
        if self.file_at.get(image.path) == (image.size, image.mtime, image.sha256):
            return False  # it is new, or a copy under the very path
        if before != image.path:
            if self._is_there(image.sha256, before):
                self.copies += 1
                return False
            self.moved += 1
        self._note(image)
        return True

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

    def count_regrouped(self, places: Mapping[Path, Place]) -> int:
        """Images that keep their group although another is said now."""
        said = {store_path(file, self.store.folder): place.group for file, place in places.items() if place.group}
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
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _require_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"A folder of images must exist, but there is none at {folder}: check the path.")
    return folder.resolve()


def _is_wanted(file: Path) -> bool:
    return is_image(file) or file.suffix.lower() in DICOM_ENDINGS


def _read_all(files: Sequence[Path], folder: Path) -> Iterator[list[_Read]]:
    """Every file read, in blocks; several at a time."""
    Image.init()  # before the threads, which would all do it
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, len(files), BLOCK):
            chunks = [files[at : at + CHUNK] for at in range(start, min(start + BLOCK, len(files)), CHUNK)]
            yield list(chain.from_iterable(pool.map(partial(_read_some, folder=folder), chunks)))


def _read_some(files: Sequence[Path], *, folder: Path) -> list[_Read]:
    return [_read(file, folder=folder) for file in files]


def _read(file: Path, *, folder: Path) -> _Read:
    """The content's hash, and whether its header is an image's; no pixel is decoded."""
    if not str(file).isprintable():
        return _Read(file=file, image=None, reason="its path has characters that are not printable or not UTF-8")
    try:
        check_id(file.name[:LONGEST_NAME].strip(), "The name of an image")
        status = file.stat()
        is_whole = stat.S_ISREG(status.st_mode) and status.st_size <= AT_ONCE
        data = file.read_bytes() if is_whole else None
        if file.suffix.lower() not in DICOM_ENDINGS and (reason := read_header(file, data).unreadable):
            return _Read(file=file, image=None, reason=reason)
        sha256 = file_sha256(file) if data is None else hashlib.sha256(data).hexdigest()
    except OSError as error:
        return _Read(file=file, image=None, reason=str(error.strerror))
    except DataError as error:
        return _Read(file=file, image=None, reason=str(error))
    image = NewImage(path=store_path(file, folder), sha256=sha256, size=status.st_size, mtime=status.st_mtime_ns)
    return _Read(file=file, image=image)


def _placed(image: NewImage, place: Place) -> NewImage:
    return replace(image, group=place.group, center=place.center)


def _count_holdout(store: LabelStore, numbers: Sequence[int]) -> int:
    chosen = {row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")}
    return len(chosen.intersection(numbers))
