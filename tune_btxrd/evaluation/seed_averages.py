"""Ensemble and soup of the winner's seeds: made once their trainings have ended, judged on the validation part.

No test part is read: who is in a soup, and everything that is fitted, rests on validation alone, which therefore flatters
a soup a little. `evaluate` scores both beside the single winner on images that nobody chose anything on.
"""
# (shape suffixes: logits_NC, N = validation images)

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.inference.open_average import ensemble_sha256
from tune_btxrd.monitor import Monitor
from tune_btxrd.results.checkpoints import WINNER, RetrainJob
from tune_btxrd.results.member_list import (
    ENSEMBLE,
    FOLDERS,
    SOUP,
    Gain,
    Kind,
    Member,
    MemberList,
    averages_in,
    defined,
    link,
    remove_others,
)
from tune_btxrd.scoring.cells import BOOTSTRAP, metric_label
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.intervals import NOT_ESTIMABLE, REPLICATES, bootstrap_interval, draw_weights
from tune_btxrd.scoring.score_tables import Judged, average_table, judge
from tune_btxrd.search.columns import named
from tune_btxrd.tasks.centers import center_scores
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.checkpoint import Checkpoint, load, save, soup_checkpoint
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.soup import Step, WeightEvaluator, greedy
from tune_btxrd.training.source import Source

SEED = 42  # of the bootstrap
AVERAGES = "averages.csv"
SHOWN = ("macro_auc", "macro_f1", "sensitivity")  # beside the loss; the table has all
LOSS = "val loss"


def average_seeds(
    jobs: Sequence[RetrainJob],
    kinds: Collection[Kind],
    *,
    source: Source,
    device: str = "auto",
    replicates: int = REPLICATES,
    progress: Callable[[int, int], None] | None = None,
) -> list[MemberList]:
    """Makes these averages of the winner's seeds on every split, and judges them beside the first seed.

    Args:
        jobs: of the final job, all ended.

    Raises:
        ResultError: a damaged checkpoint, or a folder that cannot be written.
    """
    splits = {job.split: [item for item in jobs if (item.split, item.role) == (job.split, WINNER)] for job in jobs}
    made = list[MemberList]()
    for done, own in enumerate(splits.values(), start=1):
        made += _average_split(sorted(own, key=lambda job: job.seed_index), kinds, source, device, replicates)
        if progress is not None:
            progress(done, len(splits))
    return made


@dataclass(frozen=True, kw_only=True)
class _Seeds:
    """The seeds of one split with what they say of its validation part."""

    jobs: Sequence[RetrainJob]
    checkpoints: Sequence[Checkpoint]
    digests: Sequence[str]
    evaluator: WeightEvaluator
    logits: Sequence[np.ndarray]
    source: Source
    replicates: int

    @property
    def data(self) -> TrainingData:
        return self.evaluator.data

    @property
    def task(self) -> Task:
        return self.data.task

    @property
    def monitor(self) -> Monitor:
        return self.jobs[0].config.monitored

    @cached_property
    def targets(self) -> np.ndarray:
        return np.asarray(self.data.targets[self.data.val_rows])

    @cached_property
    def weights_RN(self) -> np.ndarray:  # noqa: N802  # shape suffix
        return draw_weights(self.data.val_groups, replicates=self.replicates, seed=SEED)

    @cached_property
    def winner(self) -> Judged:
        return self.judged(WINNER, self.logits[0], self.digests[0])

    def scores(self, logits_NC: np.ndarray) -> dict[str, Any]:  # noqa: N803  # shape suffix
        """The metrics of an epoch."""
        data = self.data
        return self.task.scores(logits_NC, self.targets, folds_N=data.val_folds) | center_scores(
            self.task,
            self.jobs[0].config.monitor,
            logits_NC,
            self.targets,
            centers_N=data.val_centers,
            count=data.num_centers,
            folds_N=data.val_folds,
        )

    def value(self, logits_NC: np.ndarray) -> float:  # noqa: N803  # as above
        """The monitored one."""
        return float(self.scores(logits_NC)[self.monitor.column])

    def judged(self, name: str, logits_NC: np.ndarray, sha256: str) -> Judged:  # noqa: N803  # as above
        decisions = fit_decisions(logits_NC, self.targets, positive_class=self.data.positive_class, task=self.task)
        return judge(name, logits_NC, self.targets, self.weights_RN, decisions=decisions, sha256=sha256)

    def member(self, index: int, file: str, step: Step | None = None) -> Member:
        return Member(
            name=f"seed {self.jobs[index].config.seed}",
            file=file,
            checkpoint_sha256=self.digests[index],
            value=self.value(self.logits[index]),
            kept=step is None or step.kept,
            together=None if step is None else defined(self.monitor.score(step.objective)),
        )


def _average_split(
    jobs: Sequence[RetrainJob], kinds: Collection[Kind], source: Source, device: str, replicates: int
) -> list[MemberList]:
    checkpoints, data = [load(job.best) for job in jobs], source.at(jobs[0].config.image_size).training_data(jobs[0].stem)
    evaluator = WeightEvaluator(jobs[0].config, data, device=device)
    seeds = _Seeds(
        jobs=jobs,
        checkpoints=checkpoints,
        digests=[file_sha256(job.best) for job in jobs],
        evaluator=evaluator,
        logits=[evaluator.logits(checkpoint["model_state_dict"]) for checkpoint in checkpoints],
        source=source,
        replicates=replicates,
    )
    folder, tables, lists = jobs[0].root / jobs[0].stem, list[pd.DataFrame](), list[MemberList]()
    for kind, make in ((ENSEMBLE, _ensemble), (SOUP, _soup)):
        if kind in kinds:
            judged, members = make(seeds, folder / FOLDERS[kind])
            tables.append(_beside_winner(judged, seeds))
            lists.append(_listed(kind, members, judged, tables[-1], seeds))
    write_whole(folder / AVERAGES, _with_earlier(to_csv(pd.concat(tables, ignore_index=True)), folder, kinds))
    for listed in lists:
        listed.save(folder / FOLDERS[listed.kind])
    return lists


def _with_earlier(table: str, folder: Path, kinds: Collection[Kind]) -> str:
    """The table and the rows of an average that an earlier command made, which lies there still."""
    path, lying = folder / AVERAGES, averages_in(folder.parent, folder.name)
    others = tuple(f"{kind}," for kind in lying if kind not in kinds)
    if not others or not path.is_file():
        return table
    head, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    own = table.splitlines(keepends=True)
    return table + "".join(row for row in rows if row.startswith(others)) if head == own[0] else table


def _ensemble(seeds: _Seeds, folder: Path) -> tuple[Judged, list[Member]]:
    """The mean of the members' probabilities; their checkpoints as links into one folder, which takes no space."""
    mean = np.mean([seeds.task.probabilities(logits) for logits in seeds.logits], axis=0)
    members = []
    for index, job in enumerate(seeds.jobs):
        file = f"seed_{job.config.seed}/best.pt"
        link(job.best, folder / file)
        members.append(seeds.member(index, file))
    remove_others(folder, members)
    return seeds.judged(ENSEMBLE, seeds.task.logits(mean), ensemble_sha256(seeds.digests)), members


def _soup(seeds: _Seeds, folder: Path) -> tuple[Judged, list[Member]]:
    """The greedy mean of the members' weights, as an ordinary checkpoint."""
    states = [checkpoint["model_state_dict"] for checkpoint in seeds.checkpoints]

    def together(chosen: Sequence[int]) -> float:
        logits = seeds.evaluator.logits(seeds.evaluator.averaged([states[index] for index in chosen]))
        return seeds.monitor.objective(seeds.value(logits))

    steps = greedy([seeds.monitor.objective(seeds.value(logits)) for logits in seeds.logits], together)
    kept = [step.member for step in steps if step.kept]
    tensors = states[kept[0]] if len(kept) == 1 else seeds.evaluator.averaged([states[index] for index in kept])
    logits, file = seeds.evaluator.logits(tensors), f"best_{seeds.jobs[0].stem}.pt"
    names = [f"seed {seeds.jobs[index].config.seed}" for index in kept]
    val_loss = float(seeds.scores(logits)["val_loss"])
    save(soup_checkpoint(seeds.checkpoints[kept[0]], tensors, members=names, val_loss=val_loss), folder / file)
    members = [seeds.member(step.member, file, step if at else None) for at, step in enumerate(steps)]
    return seeds.judged(SOUP, logits, file_sha256(folder / file)), members


def _listed(kind: Kind, members: Sequence[Member], judged: Judged, table: pd.DataFrame, seeds: _Seeds) -> MemberList:
    source, columns = seeds.source, seeds.task.record.columns()
    row = named(seeds.scores(judged.logits), columns, source.class_names, centers=source.centers)
    scores = {name: defined(value) for name, value in row.items()}
    return MemberList(
        kind=kind,
        split=seeds.jobs[0].split,
        monitor=seeds.monitor.label,
        members=tuple(members),
        value=scores[seeds.monitor.column],
        scores=scores,
        gains=tuple(_gains(table, source.class_names[source.positive_class])),
    )


def _gains(table: pd.DataFrame, positive: str) -> Iterator[Gain]:
    """The loss, and SHOWN of all images or of the positive class."""
    for row in table.to_dict("records"):
        if row["metric"] == LOSS or (row["metric"] in SHOWN and row["class"] in ("", positive)):
            yield Gain(
                metric=metric_label(str(row["metric"]), str(row["class"])),
                difference=defined(row["difference"]),
                low=defined(row["low"]),
                high=defined(row["high"]),
            )


def _beside_winner(judged: Judged, seeds: _Seeds) -> pd.DataFrame:
    """Every metric of the average and of the single winner with the paired interval of the difference; first the loss."""
    table = average_table([judged], seeds.winner, seeds.source.class_names)
    own, winners = (_mean_losses(model, seeds) for model in (judged, seeds.winner))
    interval = bootstrap_interval(own[1] - winners[1])
    loss = {
        "model": judged.name,
        "metric": LOSS,
        "class": "",
        "value": own[0],
        WINNER: winners[0],
        "difference": own[0] - winners[0],
        "low": interval.low,
        "high": interval.high,
        "interval": NOT_ESTIMABLE if np.isnan(interval.low) else BOOTSTRAP,
    }
    return pd.concat([pd.DataFrame([loss]), table], ignore_index=True)


def _mean_losses(model: Judged, seeds: _Seeds) -> tuple[float, np.ndarray]:
    """The unweighted loss on the whole part, and (R,) on every draw."""
    each, task = range(len(seeds.targets)), seeds.task
    loss_N = np.array([task.log_loss(model.logits[[i]].astype(float), seeds.targets[[i]])[0] for i in each])  # noqa: N806  # shape suffix
    known_N = np.ones(len(each)) if task.exclusive else task.known(seeds.targets, seeds.data.num_classes).sum(axis=1)  # noqa: N806  # as above
    weights = seeds.weights_RN
    return float(loss_N.sum() / known_N.sum()), np.asarray((weights @ loss_N) / (weights @ known_N))
