"""One trial of a search once more, alone, and the comparison with what the search recorded."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.splits.partition_names import confirm_split
from tune_btxrd.distributed.trainable import run_trial
from tune_btxrd.distributed.trial_config import TrialConfig
from tune_btxrd.errors import ResultError
from tune_btxrd.search.columns import column_of
from tune_btxrd.search.record import TrialRecord, read_search
from tune_btxrd.training.source import Source


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A trial run again.

    Attributes:
        recorded, rows: the epochs that the search recorded, and the new ones; a pruned trial is run as far as it came.
        differences: (epoch, name, recorded value, new value) of every number that is not equal.
    """

    trial: TrialRecord
    recorded: tuple[Mapping[str, Any], ...]
    rows: tuple[Mapping[str, Any], ...]
    differences: tuple[tuple[int, str, Any, Any], ...]

    @property
    def is_equal(self) -> bool:
        """Whether every recorded number came out again, exactly."""
        return not self.differences


class _EnoughError(Exception):
    """As many epochs as were recorded."""


def reproduce(
    folder: Path,
    label: str,
    source: Source,
    *,
    splits: tuple[str, ...],
    device: str,
    threads: int | None,
    heard: Callable[[Mapping[str, Any]], None] | None = None,
) -> Reproduction:
    """Trains the trial's config on its own partition, from the start, as many epochs as the search recorded of it.

    The numbers are equal on the same device, thread count and versions.

    Args:
        label: the trial's number, or `7r2` for repeat 2 of trial 7.
        splits: what the search's trials see: its split, or their folds; a confirmation trial sees its own partition.
        threads: as in the search, see `session_threads`.
        heard: called with each row as it comes.

    Raises:
        ResultError: no such trial, or one without an epoch.
    """
    trial = _trial(folder, label)
    config = TrialConfig(
        trial=label,
        role=trial.role,
        splits=splits if trial.role == "search" else (confirm_split(int(trial.repeat or 0)),),
        hyperparameters=TrainConfig.from_dict(trial.config),
    )
    rows: list[Mapping[str, Any]] = []

    def report(row: dict[str, Any]) -> None:
        if row["stop"] == "diverged":
            return  # no epoch; the end of a training that fell short
        rows.append(row)
        if heard is not None:
            heard(row)
        if len(rows) == len(trial.epochs):
            raise _EnoughError

    with TemporaryDirectory() as aside, suppress(_EnoughError):
        sized = source.at(config.hyperparameters.image_size)
        run_trial(config, sized, report, device=device, threads=threads, checkpoints=Path(aside))
    recorded = tuple(trial.epochs)
    return Reproduction(trial=trial, recorded=recorded, rows=tuple(rows), differences=_differences(recorded, rows))


def session_threads(folder: Path, label: str) -> int | None:
    """CPU threads per trial in the session that began this one, or None where the journal does not say."""
    trial = _trial(folder, label)
    sessions = [item for item in read_search(folder).sessions if item["time"] <= trial.started]
    return int(sessions[-1]["threads"]) if sessions and sessions[-1].get("threads") else None


def _trial(folder: Path, label: str) -> TrialRecord:
    record = read_search(folder)
    if label not in record.trials:
        known = f"0 to {len(record.search_trials) - 1}" if record.search_trials else "none"
        raise ResultError(f"A trial's number must be in the search, but {folder.name} has no {label!r}: it has {known}.")
    if not record.trials[label].epochs:
        reason = record.trials[label].reason or "it has not begun"
        raise ResultError(f"A trial can be repeated from its first epoch on, but {label} has none: {reason}")
    return record.trials[label]


def is_compared(name: str) -> bool:
    """Whether a column must come out again: all that the epoch's record knows, less what a clock decides."""
    known = column_of(name)
    return known is not None and known.kind != "clock"


def _is_equal(old: Any, new: Any) -> bool:
    """Whether a value came out again; one that is undefined stays undefined."""
    both = isinstance(old, float) and isinstance(new, float)
    return bool(old == new) or (both and math.isnan(old) and math.isnan(new))


def _differences(
    recorded: tuple[Mapping[str, Any], ...], rows: list[Mapping[str, Any]]
) -> tuple[tuple[int, str, Any, Any], ...]:
    found = [
        (old["epoch"], name, old[name], new.get(name))
        for old, new in zip(recorded, rows, strict=False)
        for name in old
        if is_compared(name) and not _is_equal(old[name], new.get(name))
    ]
    absent = [(old["epoch"], "epoch", old["epoch"], None) for old in recorded[len(rows) :]]
    return tuple([*found, *absent])
