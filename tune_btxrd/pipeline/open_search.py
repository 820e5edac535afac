"""A search opened for reading: its trials, epochs and winner as a notebook wants them. Neither Ray nor torch."""

from functools import cached_property
from pathlib import Path

import pandas as pd

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ResultError
from tune_btxrd.pipeline.place import STORAGE, Place
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.selection.winner import Selection, select
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.tables import epochs_table, trials_table


class OpenSearch:
    """A search as it stands on disk when it is first asked; open it again to see what came later."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settings: SearchSettings = place.settings()

    def __repr__(self) -> str:
        return f"OpenSearch({self.name!r}, {len(self.record.search_trials)} trials)"

    @property
    def name(self) -> str:
        """Of the search."""
        return self.settings.name

    @property
    def folder(self) -> Path:
        """`ray_results/<name>`."""
        return self.place.folder

    @property
    def checkpoints(self) -> Path:
        """`checkpoints/<name>`: best_<split>.pt and what belongs to it."""
        return self.settings.checkpoints

    @property
    def spec(self) -> SearchSpec:
        """What was searched, flags included. Raises: ResultError for a folder of verb `train`."""
        if self.settings.kind != "search":
            raise ResultError(f"{self.name} is one training without a search: its config is `settings.only_config`.")
        return self.settings.spec(self.folder)

    @cached_property
    def record(self) -> SearchRecord:
        """Every trial with its epochs."""
        return read_search(self.folder)

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: state, reason, epochs, best epoch and its values, hyperparameters, seconds."""
        return trials_table(self.record)

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch of every trial, with the column names of `epochs.csv`."""
        return epochs_table(self.record)

    def curves(self, value: str = "val_loss") -> pd.DataFrame:
        """A value over the epochs: one row per epoch, one column per trial, in order of trials.

        Raises:
            ResultError: no such column of `epochs`.
        """
        table = self.epochs
        if value not in table:
            raise ResultError(f"A curve is a column of `epochs`, but got {value!r}: one of {', '.join(map(str, table))}.")
        return table.pivot_table(index="epoch", columns="trial", values=value, sort=False).sort_index()

    @property
    def selection(self) -> Selection:
        """The winner and how it was found. Raises: ResultError where there is none yet."""
        return select(self.record, self.spec, val_share=self.settings.val_ratio)

    @property
    def winner(self) -> TrainConfig:
        """The config that the selection rule chooses, or the one that verb `train` trained. Raises: ResultError."""
        only = self.settings.only_config
        return only if only is not None else TrainConfig.from_dict(self.selection.winner.config)


def open_search(name: str, *, storage: str = STORAGE, checkpoints: Path | None = None) -> OpenSearch:
    """A search by its name, brought from a storage beyond this machine where need be. Raises: ResultError."""
    return OpenSearch(Place(name=name, storage=storage, checkpoints=checkpoints))
