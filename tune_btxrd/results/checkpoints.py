"""The checkpoints of a retrain: where each training of the final job leaves its files, and what is found there later."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.splits.split_files import split_name
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.results.member_list import SOUP, Kind, averages_in

LOG = "training_log.csv"
WINNER, HAND_MADE = "winner", "hand-made"  # the roles of a config in the final job
HAND_MADE_FOLDER = "hand_made"
EXPORT = "export"  # in the folder of a model
FOLD_FILES, FOLD_STEM = "fold_*_of_*/best.pt", re.compile(r"fold_(\d+)_of_(\d+)")
ALONE = "this config"  # what verb `train` trains


@dataclass(frozen=True, kw_only=True)
class RetrainJob:
    """One training of the final job.

    Attributes:
        split: which parts; stem: the split's name as a file name.
        role: WINNER or HAND_MADE; seed_index: 0 for the config's own seed, 1, 2, ... for repeats.
        root: `checkpoints/<name>`.
        is_alone: there was no search, so that its only config has won nothing.
        is_fold: one of the folds of a result; its checkpoints lie in its own folder.
    """

    split: str
    stem: str
    role: str
    seed_index: int
    config: TrainConfig
    root: Path
    is_alone: bool = False
    is_fold: bool = False

    @property
    def folder(self) -> Path:
        """Where log and curves of this job lie."""
        base = self.root / self.stem
        if self.role == HAND_MADE:
            base = base / HAND_MADE_FOLDER
        return base if self.seed_index == 0 else base / f"seed_{self.config.seed}"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch; the winner's first seed is the one that users look for."""
        return self.root / f"best_{self.stem}.pt" if self._is_main else self.folder / "best.pt"

    @property
    def final(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.root / f"final_{self.stem}.pt" if self._is_main else self.folder / "final.pt"

    @property
    def label(self) -> str:
        """What a person reads."""
        seed = f", seed {self.config.seed}" if self.seed_index else ""
        return f"{self.split}, {self.title}{seed}"

    @property
    def title(self) -> str:
        """The config's name for a person."""
        return ALONE if self.is_alone else self.role

    @property
    def _is_main(self) -> bool:
        return self.role == WINNER and self.seed_index == 0 and not self.is_fold

    def log(self) -> pd.DataFrame:
        """The training log so far; empty before the first epoch."""
        path = self.folder / LOG
        return pd.read_csv(path, keep_default_na=False, na_values=["nan"]) if path.is_file() else pd.DataFrame()


def plan_jobs(
    root: Path,
    splits: Mapping[str, str],
    winner: TrainConfig,
    hand_made: TrainConfig | None,
    *,
    seeds: int,
    hand_made_seeds: int | None = None,
    is_alone: bool = False,
    is_fold: bool = False,
) -> list[RetrainJob]:
    """Winner and hand-made config on every split, `seeds` times with seeds counted up from the config's own.

    Args:
        splits: split name -> its file stem.
        hand_made_seeds: of the hand-made config; None: as many.
        hand_made: None, or equal to the winner: then it is not trained twice.
        is_alone: the winner is the one config of verb `train`; is_fold: the splits are folds of a result.
    """
    configs = {WINNER: winner} | ({HAND_MADE: hand_made} if hand_made is not None and hand_made != winner else {})
    return [
        RetrainJob(
            split=split,
            stem=stem,
            role=role,
            seed_index=index,
            config=config.replace(seed=config.seed + index),
            root=root,
            is_alone=is_alone,
            is_fold=is_fold,
        )
        for index in range(seeds)
        for split, stem in splits.items()
        for role, config in configs.items()
        if role == WINNER or hand_made_seeds is None or index < hand_made_seeds
    ]


def is_done(job: RetrainJob) -> bool:
    """Whether the training of a job ended and both its checkpoints are there."""
    log = job.log()
    return bool(len(log)) and log["stop"].iloc[-1] != "" and job.best.is_file() and job.final.is_file()


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """`training_log.csv`, whole or not at all; its first columns are the contract's."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def best_row(log: pd.DataFrame) -> dict[str, float | str]:
    """The row of the best epoch."""
    return {str(name): value for name, value in log[log["improved"].astype(str) == "True"].iloc[-1].to_dict().items()}


@dataclass(frozen=True, kw_only=True)
class FinishedSplit:
    """The checkpoints of one split.

    Attributes:
        name: of the split, "fold 2/5"; stem: as part of a file name, "fold_2_of_5".
        folder: `checkpoints/<name>/<stem>`.
        winner: `best_<stem>.pt`; of a fold of a result `best.pt` in its folder.
        hand_made: the hand-made config on the same split; None where the winner is the hand-made config.
        seeds: further seeds of the winner.
        averages: ensemble and soup of these seeds, as far as they were made: kind -> folder of the member list.
    """

    name: str
    stem: str
    folder: Path
    winner: Path
    hand_made: Path | None
    seeds: tuple[Path, ...]
    averages: Mapping[Kind, Path] = field(default_factory=dict)

    @property
    def is_fold(self) -> bool:
        """Whether it is a fold of a result, which has no test part."""
        return self.winner.parent == self.folder

    @property
    def models(self) -> dict[str, Path]:
        """What an evaluation compares: WINNER, HAND_MADE where there is one, then the averages."""
        single = {WINNER: self.winner} | ({HAND_MADE: self.hand_made} if self.hand_made else {})
        return single | {kind: self.average(kind) for kind in self.averages}

    def average(self, kind: Kind) -> Path:
        """The model: of a soup its checkpoint, of an ensemble its folder."""
        folder = self.averages[kind]
        return folder / f"best_{self.stem}.pt" if kind == SOUP else folder

    @property
    def exports(self) -> dict[str, Path]:
        """Where `export` puts the winner and the averages."""
        return {WINNER: self.folder / EXPORT} | {kind: folder / EXPORT for kind, folder in self.averages.items()}


def finished_splits(checkpoints: Path) -> list[FinishedSplit]:
    """Every split that has a winner in `checkpoints/<name>`, `stratified` first. Raises: ResultError where none has."""
    found = []
    for winner in checkpoints.glob("best_*.pt"):
        stem = winner.stem.removeprefix("best_")
        folder = checkpoints / stem
        hand_made = folder / HAND_MADE_FOLDER / "best.pt"
        found.append(
            FinishedSplit(
                name=split_name(stem),
                stem=stem,
                folder=folder,
                winner=winner,
                hand_made=hand_made if hand_made.is_file() else None,
                seeds=tuple(sorted(folder.glob("seed_*/best.pt"))),
                averages=averages_in(checkpoints, stem),
            )
        )
    found += [
        FinishedSplit(
            name=split_name(path.parent.name),
            stem=path.parent.name,
            folder=path.parent,
            winner=path,
            hand_made=None,
            seeds=(),
        )
        for path in checkpoints.glob(FOLD_FILES)
    ]
    if not found:
        raise ResultError(
            f"{checkpoints} must hold best_<split>.pt, but holds none: run `retrain {checkpoints.name}` first."
        )
    return sorted(found, key=lambda split: (split.stem != "stratified", split.is_fold, *_in_order(split.stem)))


def _in_order(stem: str) -> tuple[str | int, ...]:
    """Sorts stems by name, and folds by number."""
    fold = FOLD_STEM.fullmatch(stem)
    return (f"fold_of_{fold[2]}", int(fold[1])) if fold else (stem, 0)


def fold_checkpoints(checkpoints: Path) -> list[Path]:
    """`best.pt` of every fold in `checkpoints/<name>`, in order; empty where there is none.

    Raises:
        ResultError: folds of several numbers of folds, or some are missing.
    """
    found = {path.parent.name: path for path in checkpoints.glob(FOLD_FILES)}
    counts = {stem: FOLD_STEM.fullmatch(stem) for stem in found}
    wanted = sorted({int(match[2]) for match in counts.values() if match})
    if len(wanted) > 1:
        raise ResultError(
            f"A folder of folds must hold one number of folds, but {checkpoints} holds {wanted}: move some away."
        )
    stems = [f"fold_{number}_of_{count}" for count in wanted for number in range(1, count + 1)]
    if absent := [stem for stem in stems if stem not in found]:
        raise ResultError(f"A folder of folds must hold every fold, but {checkpoints} lacks {absent[0]}/best.pt: --resume.")
    return [found[stem] for stem in stems]


def chosen_splits(checkpoints: Path, names: Sequence[str] | None) -> list[FinishedSplit]:
    """The retrained splits of these names, or all. Raises: ResultError for an unknown one."""
    found = finished_splits(checkpoints)
    known = {item.name: item for item in found} | {item.stem: item for item in found}
    if unknown := [name for name in names or () if name not in known]:
        names_found = ", ".join(item.name for item in found)
        raise ResultError(f"A split must have been retrained ({names_found}), but got {unknown[0]!r}: choose one of them.")
    return found if names is None else [known[name] for name in names]
