"""What may be an id, which files belong to a dataset, and how a file is written: whole or not at all."""

import re
from collections.abc import Sequence
from pathlib import Path

from tune_btxrd.errors import DataError

LONGEST_ID = 128  # characters; ids become file names and table cells, and 255 bytes is what file systems hold


def check_text(value: str, what: str) -> None:
    """Refuses text that has no place in a file name: invisible characters, more than 128 characters.

    Raises:
        DataError: naming `what` (e.g. "image_id in row 7") and the value.
    """
    if len(value) > LONGEST_ID:
        raise DataError(
            f"{what} must have at most {LONGEST_ID} characters, but got {len(value)} ({value[:24]!r}...): shorten it."
        )
    if not value.isprintable():
        raise DataError(f"{what} must be printable text, but got {value!r}: remove invisible characters.")


def is_formula(value: str) -> bool:
    """Whether a spreadsheet would run this text: it starts with = or @, or with + or - and is no number and no dash."""
    signed = value.startswith(("+", "-"))
    return value.startswith(("=", "@")) or (signed and not re.fullmatch(r"[+-]+|[+-]\d*\.?\d+(e[+-]?\d+)?", value))


def check_id(image_id: str, what: str) -> None:
    """Refuses an image id that is more than a name: ids become file names.

    Raises:
        DataError: naming `what` and the id.
    """
    check_text(image_id, what)
    if image_id in (".", "..") or "/" in image_id or "\\" in image_id:
        raise DataError(f"{what} must be a plain name without a folder, but got {image_id!r}: rename it in the table.")


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


def examples(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message: "a, b, c and 4 more"."""
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
