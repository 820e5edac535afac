"""How often the test part of a split was opened: every evaluation is written down before it reads a pixel."""

import contextlib
import json
import time
from pathlib import Path
from typing import TypedDict, cast

from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole

LOG_FILE = "test_log.json"


class Opening(TypedDict):
    """One evaluation of a test part, as the log holds it; `count` is 1 for the first."""

    count: int
    when: str
    split: str
    split_sha256: str
    checkpoints: dict[str, str]
    images: int
    event: int | None  # of a label store's hold-out: the last event that its answers rest on


def read_openings(folder: Path) -> list[Opening]:
    """The openings so far, oldest first, of the `evaluation` folder of a split; empty where there was none.

    Raises:
        ResultError: the log is damaged. It is not started anew: an opening that is forgotten counts as none.
    """
    path = folder / LOG_FILE
    if not path.exists():
        return []
    try:
        openings = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(openings, list) and all(isinstance(entry, dict) for entry in openings)
    except (OSError, ValueError, AssertionError) as error:
        raise ResultError(f"{path} must be whole, since it counts how often a test part was opened: restore it.") from error
    return cast("list[Opening]", openings)


def log_opening(
    folder: Path,
    *,
    split: str,
    split_sha256: str,
    checkpoints: dict[str, str],
    images: int,
    elsewhere: int = 0,
    event: int | None = None,
) -> int:
    """Adds an opening of `images` test images and returns how many there are now.

    Args:
        checkpoints: model -> SHA-256 of the checkpoint that is scored.
        elsewhere: openings of the same images that others have counted, this one included: a hold-out is opened by any
            search of its label store.
        event: of such a hold-out: the last event that its answers rest on.

    Raises:
        ResultError: the log is damaged or cannot be written.
    """
    openings = read_openings(folder)
    entry: Opening = {
        "count": max(len(openings) + 1, elsewhere),
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "split": split,
        "split_sha256": split_sha256,
        "checkpoints": checkpoints,
        "images": images,
        "event": event,
    }
    write_whole(folder / LOG_FILE, json.dumps([*openings, entry], indent=2) + "\n")
    return entry["count"]


def reserve(folder: Path, count: int) -> None:
    """Writes `count` bytes into a folder and takes them away again. Raises: ResultError where it cannot be done."""
    probe = folder / ".space"
    try:
        write_whole(probe, bytes(count))
    finally:
        with contextlib.suppress(OSError):  # where the folder is no folder, there is nothing to take away
            probe.unlink()
