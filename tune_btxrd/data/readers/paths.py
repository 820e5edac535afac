"""Paths that a table or a folder names: inside the dataset, found also where another system spelled them otherwise."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tune_btxrd.data.readers.file_rules import is_no_data
from tune_btxrd.data.readers.names import apart, examples, same_spelling
from tune_btxrd.errors import DataError

MOST_COMPARED = 20_000  # names, for a message
OLD_ENCODINGS = ("latin-1", "cp437")  # of names in archives that were packed before UTF-8


def inside(root: Path, relative: str | Path, what: str) -> Path:
    """The absolute path of `relative` under `root`, links followed.

    Raises:
        DataError: it is absolute, or it (or the link it is) leads out of `root`; nothing outside is opened.
    """
    home = root.resolve()
    try:
        path = (home / relative).resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a name that the file system refuses
        why = error.strerror if isinstance(error, OSError) else str(error)[:100]
        raise DataError(f"{what} must be a usable path, but {str(relative)[:100]!r} is none ({why}): mend it.") from error
    if Path(relative).is_absolute() or not path.is_relative_to(home):
        raise DataError(
            f"{what} must lie inside {home}, but {str(relative)[:100]!r} leads to {path}: put the file into the folder."
        )
    return path


class FileFinder:
    """Finds files below one folder by the paths that tables give.

    Back-slashes, another case, another spelling of accents and names in an old encoding lead to the file where just one
    file is meant. Folders are listed once.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._names: dict[Path, dict[str, set[str]]] = {}
        self.respelled: list[str] = []  # paths that led to a file of another spelling

    def find(self, relative: str, what: str, *, folders: bool = False) -> Path | None:
        """The file (with `folders`: or folder), or None where there is none.

        Raises:
            DataError: the path leads out of the folder, or two files are meant as well.
        """
        path = inside(self._root, relative, what)
        if path.is_file() or (folders and path.is_dir()):
            return path
        found = self._respelled(relative, what, folders=folders)
        if found is None:
            return None
        self.respelled.append(relative)
        return inside(self._root, found.relative_to(self._root), what)

    def is_folder(self, relative: str) -> bool:
        """Whether a path leads to a folder below this one."""
        try:
            found = self.find(relative, "A path", folders=True)
        except DataError:
            return False  # whoever reads the table says what is wrong with it
        return found is not None and found.is_dir()

    def notes(self) -> tuple[str, ...]:
        """A line for the user on paths that were not spelled as their files are; none where all were."""
        if not self.respelled:
            return ()
        count = len(self.respelled)
        return (f"{count:,} path(s) led to a file that is spelled otherwise ({examples(self.respelled, 2)}).",)

    def nearest(self, relative: str) -> str | None:
        """The path below the folder that looks most like this one, for a message."""
        folder = PurePosixPath(relative.replace("\\", "/")).parent
        below = [folder] if (self._root / folder).is_dir() else []
        listed = [place / name for place in [*below, PurePosixPath()] for name in self._listed(self._root / place)]
        known = [str(path) for path in listed if (self._root / path).is_file()]
        close = difflib.get_close_matches(relative, known[:MOST_COMPARED], n=1, cutoff=0.5)
        return close[0] if close else None

    def _respelled(self, relative: str, what: str, *, folders: bool) -> Path | None:
        places = [self._root]
        for part in PurePosixPath(relative.replace("\\", "/")).parts:
            places = [match for place in places for match in self._matches(place, part)]
        files = [place for place in places if place.is_file() or (folders and place.is_dir())]
        if len(files) > 1:
            first, second = apart(files[0].name, files[1].name)
            raise DataError(
                f"{what} must name one file, but {relative!r} fits {first} and {second}: write it as the file is called."
            )
        return files[0] if files else None

    def _matches(self, folder: Path, name: str) -> Iterator[Path]:
        if name == "..":
            yield folder.parent
            return
        for found in sorted(self._index(folder).get(same_spelling(name).casefold(), ())):
            yield folder / found

    def _index(self, folder: Path) -> dict[str, set[str]]:
        """Spelling that all systems share -> names in `folder`."""
        if folder not in self._names:
            index = self._names[folder] = {}
            for name in self._listed(folder):
                for spelling in spellings(name):
                    index.setdefault(same_spelling(spelling).casefold(), set()).add(name)
        return self._names[folder]

    def _listed(self, folder: Path) -> list[str]:
        if not folder.is_relative_to(self._root) or not folder.is_dir():
            return []
        try:
            return [path.name for path in folder.iterdir() if not is_no_data(path.name)]
        except OSError as error:
            raise DataError(f"{folder} must be readable, but is not ({error.strerror}): change its permissions.") from error


def spellings(name: str) -> list[str]:
    """The name; one that is not UTF-8 also as the encodings of old archives read it."""
    if name.isascii() or all(not 0xDC80 <= ord(character) <= 0xDCFF for character in name):
        return [name]
    return [name, *(os.fsencode(name).decode(encoding) for encoding in OLD_ENCODINGS)]
