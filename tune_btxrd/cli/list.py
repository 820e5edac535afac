"""Verb `list`: the searches at hand, with state, best and date. Neither Ray nor torch is needed."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_btxrd.console import make_table, say, show
from tune_btxrd.distributed.remote_storage import RemoteFolder, is_remote, local_folder
from tune_btxrd.errors import ResultError
from tune_btxrd.pipeline.live_view import state_of
from tune_btxrd.search.journal import FILE
from tune_btxrd.search.record import SETTINGS_FILE, read_search


def list_searches(storage: str) -> None:
    """Prints one row per results folder; a damaged one is listed with what is wrong.

    Args:
        storage: a folder, or a storage beyond this machine.
    """
    if not is_remote(storage):
        _list(local_folder(storage), storage)
        return
    remote = RemoteFolder(storage)
    with TemporaryDirectory() as aside:
        for name in remote.names():
            if name.count("/") == 1 and name.endswith((f"/{SETTINGS_FILE}", f"/{FILE}")):
                remote.get(name, Path(aside) / name)
        _list(Path(aside), storage)


def _list(folder: Path, storage: str) -> None:
    folders = sorted(path.parent for path in folder.glob(f"*/{SETTINGS_FILE}"))
    if not folders:
        say(f"No search in {storage}: start one with `python -m tune_btxrd run`.")
        return
    show(
        make_table(
            f"Searches in {storage}",
            ("name", "trials", "best", "last change"),
            [_row(folder) for folder in folders],
        )
    )


def _row(folder: Path) -> tuple[str, str, str, str]:
    try:
        record = read_search(folder)
    except ResultError as error:
        return folder.name, str(error), "", ""
    if record.settings.get("kind") == "train":
        return folder.name, "one config, no search", "", _date(folder / SETTINGS_FILE)
    scored = [trial for trial in record.search_trials if trial.objective is not None]
    best = min(scored, key=lambda trial: trial.rank, default=None)
    score = f"{best.shown} (trial {best.label})" if best else ""
    return folder.name, state_of(record), score, _date(folder / FILE)


def _date(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
