"""Everything that a report is made of, read from a results folder that may be running, killed, copied or half empty."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tune_btxrd.data.splits.split_files import split_name
from tune_btxrd.errors import ResultError
from tune_btxrd.monitor import MONITORS, Monitor
from tune_btxrd.report.cutoffs import RungVisit, rung_visits
from tune_btxrd.report.opened_parts import OpenedPart, read_opened_parts
from tune_btxrd.report.slots import SlotUse, slot_use
from tune_btxrd.results.checkpoints import HAND_MADE, HAND_MADE_FOLDER, LOG, WINNER, best_row
from tune_btxrd.results.fold_scores import fold_lines
from tune_btxrd.results.member_list import MemberList, member_lists
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.columns import watched_column
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.selection.recommendation import Recommendation, recommend
from tune_btxrd.search.selection.winner import Selection, select
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.training.source import Source


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of the final job.

    Attributes:
        split: the split's name; role: WINNER or HAND_MADE; seed: of a further seed, else None.
        log: `training_log.csv`, one row per epoch.
    """

    split: str
    role: str
    seed: int | None
    log: pd.DataFrame

    @property
    def best(self) -> dict[str, float | str]:
        """The row of the best epoch."""
        return best_row(self.log)

    @property
    def title(self) -> str:
        """Role, "winner" or "hand-made", with its seed where it is a further one."""
        return self.role + (f", seed {self.seed}" if self.seed is not None else "")


@dataclass(frozen=True, kw_only=True)
class AuditCounts:
    """What `audit.json` says of the dataset.

    Attributes:
        class_counts: class -> images; class_by_center: center -> the same.
        broken: files missing or unreadable; duplicates: pairs of equal files.
        findings: one row each; None where there was nothing to report.
    """

    images: int
    class_counts: Mapping[str, int]
    class_by_center: Mapping[str, Mapping[str, int]]
    broken: int
    duplicates: int
    findings: pd.DataFrame | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AuditCounts":
        """From the content of `audit.json`, of this version or an earlier one."""
        return cls(
            images=values.get("images", 0),
            class_counts=values.get("class_counts", {}),
            class_by_center=values.get("class_by_center", {}),
            broken=len(values.get("missing", ())) + len(values.get("unreadable", ())),
            duplicates=len(values.get("duplicates", ())),
            findings=pd.DataFrame(values["findings"]) if values.get("findings") else None,
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """A search as its report sees it.

    Attributes:
        spec: None for a folder of verb `train`, which holds no search.
        selection: None where there is no winner; then `no_winner` says why.
        recommendation: every trial as observed, completed and modelled, whatever rule the search has; None without a search.
        visits: every arrival of a trial at a rung, with the cutoff that it met.
        slots: what every slot did when; None before the first epoch.
        trainings: of the final job, in order of splits; empty where the checkpoints are not at hand.
        averages: ensembles and soups of the final job, as they were judged on validation.
        fold_lines: what the folds of the final job, and nested ones, gave; empty without folds.
        opened_parts: those that `evaluate` has opened, with their scores; empty before.
        findings: of the audit, one row each; None where it was not kept.
        audit: counts of the dataset as the audit found them; None where it was not kept.
        gaps: what could not be read, one sentence each.
    """

    folder: Path
    settings: SearchSettings
    record: SearchRecord
    spec: SearchSpec | None
    selection: Selection | None
    no_winner: str
    recommendation: Recommendation | None
    visits: tuple[RungVisit, ...]
    slots: SlotUse | None
    trainings: tuple[Training, ...]
    averages: tuple[MemberList, ...]
    fold_lines: tuple[str, ...]
    opened_parts: tuple[OpenedPart, ...]
    findings: pd.DataFrame | None
    audit: AuditCounts | None
    gaps: tuple[str, ...]

    @property
    def monitor(self) -> Monitor:
        """What the search is judged by."""
        return self.spec.monitored if self.spec else MONITORS["val_loss"]

    @property
    def positive_class(self) -> str:
        """The class to watch."""
        return self.settings.source.class_names[self.settings.source.positive_class]

    @property
    def recall(self) -> str:
        """The column of the positive class's recall."""
        return watched_column(self.settings.source)


def gather(folder: Path, *, checkpoints: Path | None = None) -> Material:
    """Reads a results folder; what may be missing (winner, checkpoints, audit) becomes a sentence in `gaps`.

    Args:
        checkpoints: `checkpoints/<name>`; default: as `search.json` says, else beside the results.

    Raises:
        ResultError: no search there, or `search.json` or the journal is damaged.
    """
    settings, record = SearchSettings.load(folder), read_search(folder)
    spec = settings.spec(folder) if settings.kind == "search" else None
    gaps: list[str] = []
    selection, why = _selection(record, spec, settings)
    found = checkpoints or find_checkpoints(folder, settings.checkpoints)
    trainings = read_trainings(found) if found else ()
    if not trainings:
        gaps.append(f"No training log of the final job was found in {found or settings.checkpoints}.")
    audit = _read_audit(folder, gaps)
    return Material(
        folder=folder,
        settings=settings,
        record=record,
        spec=spec,
        selection=selection,
        no_winner=why,
        recommendation=recommend(record.search_trials, spec) if spec else None,
        visits=rung_visits(record, spec) if spec else (),
        slots=slot_use(record),
        trainings=trainings,
        averages=_averages(found, gaps) if found else (),
        fold_lines=_fold_lines(found, gaps) if found else (),
        opened_parts=_opened_parts(found, settings.source) if found else (),
        findings=audit.findings if audit else None,
        audit=audit,
        gaps=tuple(gaps),
    )


def _fold_lines(checkpoints: Path, gaps: list[str]) -> tuple[str, ...]:
    try:
        return tuple(fold_lines(checkpoints))
    except ResultError as error:
        gaps.append(str(error))
        return ()


def _averages(checkpoints: Path, gaps: list[str]) -> tuple[MemberList, ...]:
    try:
        return tuple(member_lists(checkpoints))
    except ResultError as error:
        gaps.append(str(error))
        return ()


def _opened_parts(checkpoints: Path, source: Source) -> tuple[OpenedPart, ...]:
    names, exclusive = source.class_names, task_named(source.task).exclusive
    return read_opened_parts(checkpoints, names[source.positive_class], labels=() if exclusive else names)


def find_checkpoints(folder: Path, noted: Path) -> Path | None:
    """The checkpoints of a search that may have been moved: where `search.json` says, else beside the results."""
    beside = folder.resolve().parent.parent / "checkpoints" / folder.resolve().name
    return next((path for path in (noted, beside) if path.is_dir()), None)


def read_trainings(checkpoints: Path) -> tuple[Training, ...]:
    """Every training log below `checkpoints/<name>`: `stratified` first, the winner before the hand-made config."""
    found = []
    for path in sorted(checkpoints.glob(f"**/{LOG}")):
        stem, *rest = path.parent.relative_to(checkpoints).parts or ("",)
        log = pd.read_csv(path, keep_default_na=False, na_values=["nan"])
        seeds = [int(part.removeprefix("seed_")) for part in rest if part.startswith("seed_")]
        if stem and len(log):
            role = HAND_MADE if HAND_MADE_FOLDER in rest else WINNER
            found.append(Training(split=split_name(stem), role=role, seed=seeds[0] if seeds else None, log=log))
    return tuple(sorted(found, key=lambda t: (t.split != "stratified", t.split, t.role != WINNER, t.seed or -1)))


def _selection(record: SearchRecord, spec: SearchSpec | None, settings: SearchSettings) -> tuple[Selection | None, str]:
    if spec is None:
        return None, "One config was trained, without a search."
    try:
        return select(record, spec, val_share=settings.val_ratio), ""
    except ResultError as error:
        return None, str(error)


def _read_audit(folder: Path, gaps: list[str]) -> AuditCounts | None:
    path = folder / "audit.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError(f"an object is due, but got {type(values).__name__}")
        return AuditCounts.from_dict(values) if values else None
    except FileNotFoundError:
        gaps.append("The audit of the dataset was not kept (audit.json is missing).")
    except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, or other than `prepare` writes it
        gaps.append("The audit of the dataset could not be read (audit.json is damaged).")
    return None
