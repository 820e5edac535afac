"""Hand-made searches for tests: a spec, a folder, made-up epochs, and a conductor that runs them without Ray."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import SearchRecord, TrialRecord, read_search
from tune_btxrd.search.space.spec import SearchSpec

SPACE = """
trials: 6
epochs: 4
scheduler: asha
grace_period: 1
startup_trials: 3
confirm: 2
repeats: 2
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
start:
  - {lr: 1.0e-3, dropout: 0.2}
"""


_JOURNALS: dict[Path, Journal] = {}


def make_spec(**settings: Any) -> SearchSpec:
    """The spec above with some settings changed."""
    return SearchSpec.from_text(SPACE).override(settings, {})


def make_folder(folder: Path) -> Path:
    """An empty search folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    return folder


def make_conductor(
    folder: Path,
    spec: SearchSpec,
    *,
    slots: int = 1,
    deadline: float | None = None,
    epoch_budget: int | None = None,
    database: Path | None = None,
) -> Conductor:
    """A conductor on the folder, going on with what its journal holds."""
    if folder in _JOURNALS:  # the driver before was killed: its lock goes with it
        _JOURNALS[folder].close()
    journal, record = Journal(folder), read_search(folder)
    _JOURNALS[folder] = journal
    return Conductor(
        spec,
        journal=journal,
        record=record,
        slots=slots,
        split="common",
        deadline=deadline,
        epoch_budget=epoch_budget,
        database=database,
    )


def make_row(epoch: int, val_loss: float, *, before: Mapping[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """One epoch as a trial reports it; objective and improved follow from the row before."""
    improved = before is None or val_loss < before["objective"]
    return {
        "epoch": epoch,
        "train_loss": val_loss,
        "val_loss": val_loss,
        "val_acc": 0.5,
        "val_recall_normal": 0.5,
        "val_recall_benign": 0.5,
        "val_recall_malignant": 0.5,
        "lr": 1e-3,
        "val_macro_f1": 0.5,
        "val_macro_auc": 0.5,
        "lr_backbone": 1e-3,
        "stage": 1,
        "objective": val_loss if improved else before["objective"],  # type: ignore[index]  # not improved: there was one before
        "improved": improved,
        "stop": "",
        "zero_recall_epochs": 0,
        "images_per_second": 1.0,
        "train_seconds": 0.1,
        "val_seconds": 0.1,
        "slot": "here",
    } | values


def make_rows(losses: list[float], *, stop: str = "", **values: Any) -> list[dict[str, Any]]:
    """The epochs of a trial with these losses; `stop` stands in the last row."""
    rows: list[dict[str, Any]] = []
    for epoch, loss in enumerate(losses, start=1):
        rows.append(make_row(epoch, loss, before=rows[-1] if rows else None, **values))
    rows[-1]["stop"] = stop
    return rows


def make_trial(number: int, losses: list[float], *, state: str = "complete", **fields: Any) -> TrialRecord:
    """A search trial that ended, with made-up epochs; values for every row go in `values`."""
    values = fields.pop("values", {})
    defaults: dict[str, Any] = {
        "label": str(number),
        "role": "search",
        "config": {},
        "params": {"lr": 1e-3, "dropout": 0.2},
        "ended": 1.0,
    }
    return TrialRecord(number=number, state=state, epochs=make_rows(losses, **values), **{**defaults, **fields})


def make_repeat(of: int, repeat: int, losses: list[float], **fields: Any) -> TrialRecord:
    """A confirmation trial."""
    label = f"{of}r{repeat}"
    return make_trial(100 * of + repeat, losses, label=label, role="confirm", of=of, repeat=repeat, **fields)


def make_record(folder: Path, *trials: TrialRecord) -> SearchRecord:
    """A search of these trials."""
    return SearchRecord(folder=folder, settings={}, trials={trial.label: trial for trial in trials}, sessions=[])


def run_all(conductor: Conductor, losses: Callable[[Mapping[str, Any]], list[float]], *, jobs: int = 10**6) -> list[str]:
    """Runs job after job with made-up losses until all is done (or so many jobs); returns the labels in order."""
    labels: list[str] = []
    while len(labels) < jobs and not isinstance(job := conductor.next(), str):
        labels.append(job.label)
        for row in make_rows(losses(job.config.to_dict()), stop="budget"):
            conductor.epoch(job.label, row)
        conductor.end(job.label, state="complete", reason="ran its full budget")
    return labels
