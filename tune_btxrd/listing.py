"""Verb `list`: the searches at hand, with state, best and date. Neither Ray nor torch is needed."""

import time
from pathlib import Path

from tune_btxrd.console import make_table, say, show
from tune_btxrd.errors import ResultError
from tune_btxrd.search.journal import FILE
from tune_btxrd.search.progress import state_of
from tune_btxrd.search.trials import SETTINGS_FILE, read_search


def list_searches(storage: Path) -> None:
    """Prints one row per results folder; a damaged one is listed with what is wrong."""
    folders = sorted(path.parent for path in storage.glob(f"*/{SETTINGS_FILE}"))
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
