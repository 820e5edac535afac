"""Verb `list`: the searches at hand, with state, best and date. Neither Ray nor torch is needed."""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_btxrd.console import make_table, say, show
from tune_btxrd.distributed.remote_storage import RemoteFolder, is_remote, local_folder
from tune_btxrd.errors import ResultError, TuneBtxrdError
from tune_btxrd.results.search_json import SPACE_FILE, SearchSettings
from tune_btxrd.search.journal import FILE
from tune_btxrd.search.pace import progress_of
from tune_btxrd.search.record import SETTINGS_FILE, STATE_WORDS, read_search, state_counts, states_line
from tune_btxrd.search.selection.recommendation import best_by_rule
from tune_btxrd.search.tables import refresh_tables


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A results folder as `list` shows it.

    Attributes:
        state: "running", "finished", "interrupted", "training" (verb `train`) or "damaged"; problem: what is damaged.
        trials: state in words -> how many of them; best: label of the best trial so far, and its score in words.
        changed: seconds since 1970.
    """

    name: str
    state: str
    shown: str
    changed: float
    trials: dict[str, int] = field(default_factory=dict)
    best: str | None = None
    best_score: str | None = None
    problem: str | None = None


def list_searches(storage: str) -> None:
    """Prints one row per results folder; a damaged one is listed with what is wrong.

    Args:
        storage: a folder, or a storage beyond this machine.
    """
    found = searches(storage)
    if not found:
        say(f"No search in {storage}: start one with `python -m tune_btxrd run`.")
        return
    rows = [
        (
            item.name,
            item.shown,
            f"{item.best_score} (trial {item.best})" if item.best is not None else "",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(item.changed)),
        )
        for item in found
    ]
    show(make_table(f"Searches in {storage}", ("name", "trials", "best", "last change"), rows))


def searches_document(storage: str) -> str:
    """The same as JSON."""
    items = [dataclasses.asdict(item) for item in searches(storage)]
    return json.dumps({"storage": storage, "searches": items}, indent=1, ensure_ascii=False)


def searches(storage: str) -> list[Listed]:
    """Every results folder of a storage, by name."""
    if not is_remote(storage):
        folder = local_folder(storage)
        if folder.exists() and not folder.is_dir():
            raise ResultError(f"Results lie in a folder, but {folder} is a file: choose another --storage.")
        return _searches(folder)
    remote = RemoteFolder(storage)
    with TemporaryDirectory() as aside:
        for name in remote.names():
            if name.count("/") == 1 and name.endswith((f"/{SETTINGS_FILE}", f"/{FILE}", f"/{SPACE_FILE}")):
                remote.get(name, Path(aside) / name)
        return _searches(Path(aside))


def _searches(folder: Path) -> list[Listed]:
    return [_listed(path.parent, _changed(path.parent)) for path in sorted(folder.glob(f"*/{SETTINGS_FILE}"))]


def _changed(folder: Path) -> float:
    path = folder / FILE
    return (path if path.is_file() else folder / SETTINGS_FILE).stat().st_mtime


def _listed(folder: Path, changed: float) -> Listed:
    try:
        settings, record = SearchSettings.load(folder), read_search(folder)
        if settings.kind == "train":
            return Listed(name=folder.name, state="training", shown="one config, no search", changed=changed)
        spec = settings.spec(folder)
        state = progress_of(record, spec, now=time.time())
    except TuneBtxrdError as error:  # this one is damaged; the others are listed all the same
        return Listed(name=folder.name, state="damaged", shown=str(error), problem=str(error), changed=changed)
    if state != "running":
        refresh_tables(record)
    best = best_by_rule(record.search_trials, spec)
    return Listed(
        name=folder.name,
        state=state,
        shown=f"{state}: {states_line(record.search_trials)}",
        changed=changed,
        trials={STATE_WORDS[state]: count for state, count in state_counts(record.search_trials).items()},
        best=best.trial.label if best else None,
        best_score=best.trial.shown if best else None,
    )
