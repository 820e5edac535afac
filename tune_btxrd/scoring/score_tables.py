"""Judged: a model on a test part; and the tables of its scores: all of them, differences, the gap between splits."""
# ruff: noqa: N803
# (shape suffixes: N = images, R = bootstrap draws, C = classes)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from tune_btxrd.scoring.answers import Answers
from tune_btxrd.scoring.cells import BOOTSTRAP, EXACT
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.scoring.intervals import NOT_ESTIMABLE, Interval, Proportion, bootstrap_interval, percentile_interval
from tune_btxrd.scoring.label_metrics import label_scores
from tune_btxrd.scoring.metrics import PROPORTIONS, Metric, ones, scores
from tune_btxrd.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One model on one test part.

    Attributes:
        name: "winner" or "hand-made".
        logits: (N, C); targets: N, in the form of the task.
        decisions: fitted on the validation part of the same split.
        point: metric -> value on the whole part; draws: metric -> (R,) values, one per bootstrap draw.
        validation: metric -> value on the validation part; empty where nobody asked.
    """

    name: str
    checkpoint_sha256: str
    logits: np.ndarray
    targets: np.ndarray
    decisions: Decisions
    point: dict[Metric, float]
    draws: dict[Metric, np.ndarray]
    validation: dict[Metric, float] = field(default_factory=dict)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C), not calibrated: what every score is of but those of `calibration_table`."""
        return self.decisions.task.probabilities(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """What the model says by `decisions.rule`, in the form of the targets."""
        return self.decisions.decide(self.logits)

    @cached_property
    def answers(self) -> Answers:
        """Targets and decisions as yes and no per class."""
        return Answers.of(self.targets, self.predicted, self.logits.shape[1], task=self.decisions.task)

    def interval(self, metric: Metric) -> Interval:
        """The interval that is shown: exact for a share, else of the bootstrap over groups."""
        if metric.name in PROPORTIONS:
            return proportions(self.answers, task=self.decisions.task)[metric].clopper_pearson
        return bootstrap_interval(self.draws[metric])


def judge(
    name: str, logits_NC: np.ndarray, targets: np.ndarray, weights_RN: np.ndarray, *, decisions: Decisions, sha256: str
) -> Judged:
    """Scores a model's logits on the whole part and on every bootstrap draw."""
    return Judged(
        name=name,
        checkpoint_sha256=sha256,
        logits=logits_NC,
        targets=targets,
        decisions=decisions,
        point=part_scores(logits_NC, targets, decisions=decisions),
        draws=drawn_scores(logits_NC, targets, weights_RN, decisions=decisions),
    )


def part_scores(logits_NC: np.ndarray, targets: np.ndarray, *, decisions: Decisions) -> dict[Metric, float]:
    """Metric -> value on the whole part."""
    drawn = drawn_scores(logits_NC, targets, ones(len(targets)), decisions=decisions)
    return {metric: float(values[0]) for metric, values in drawn.items()}


def drawn_scores(
    logits_NC: np.ndarray, targets: np.ndarray, weights_RN: np.ndarray, *, decisions: Decisions
) -> dict[Metric, np.ndarray]:
    """Metric -> (R,) values of what the decisions make of the logits, one per weighting of the images."""
    task, decided = decisions.task, decisions.decide(logits_NC)
    probabilities = task.probabilities(logits_NC)
    if task.exclusive:
        return scores(probabilities, targets, weights_RN, task=task)
    answers = Answers.of(targets, decided, logits_NC.shape[1], task=task)
    return label_scores(probabilities, answers, weights_RN)


def score_table(models: Sequence[Judged], class_names: Sequence[str]) -> pd.DataFrame:
    """One row per model and metric: value, its interval and of which kind that is.

    Beside it for whoever wants more: the plain percentiles of the bootstrap; of shares the count, exact and Wilson interval.
    """
    rows = []
    for model in models:
        counts = proportions(model.answers, task=model.decisions.task)
        for metric, value in model.point.items():
            row = {"model": model.name, **_named(metric, class_names), "value": value}
            row["validation"] = model.validation.get(metric, math.nan)
            shown = model.interval(metric)
            row |= _shown(shown, EXACT if metric in counts else BOOTSTRAP)
            row |= _ends("bootstrap", percentile_interval(model.draws[metric])) | proportion_columns(counts.get(metric))
            rows.append(row)
    return pd.DataFrame(rows)


def difference_table(first: Judged, second: Judged, class_names: Sequence[str]) -> pd.DataFrame:
    """first - second per metric, with the interval of the paired difference: both are scored on the same draws."""
    rows = []
    for metric in first.point:
        drawn = first.draws[metric] - second.draws[metric]
        values = {first.name: first.point[metric], second.name: second.point[metric]}
        difference = first.point[metric] - second.point[metric]
        rows.append({**_named(metric, class_names), **values, "difference": difference} | _bootstrapped(drawn))
    return pd.DataFrame(rows)


def average_table(averages: Sequence[Judged], winner: Judged, class_names: Sequence[str]) -> pd.DataFrame:
    """Ensemble and soup beside the single winner: one row per average and metric, as `difference_table`, both values named
    `value` and by the winner.
    """
    tables = []
    for average in averages:
        table = difference_table(average, winner, class_names).rename(columns={average.name: "value"})
        table.insert(0, "model", average.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def proportions(answers: Answers, *, task: Task) -> dict[Metric, Proportion]:
    """Every metric that is found / asked, as counts."""
    overall = Metric("accuracy" if task.exclusive else "exact_match")
    found = {overall: Proportion(found=int(answers.right_N.sum()), asked=int(answers.whole_N.sum()))}
    for index in range(answers.yes_NC.shape[1]):
        _, yes, called = answers.one(index)
        found |= {Metric(name, index): count for name, count in yes_no_counts(yes, called).items()}
    assert {metric.name for metric in found} <= set(PROPORTIONS)
    return found


def yes_no_counts(yes_N: np.ndarray, called_N: np.ndarray) -> dict[str, Proportion]:
    """sensitivity, specificity, ppv and npv of one question as counts; (N,) bool each."""
    pairs = {
        "sensitivity": (called_N, yes_N),
        "specificity": (~called_N, ~yes_N),
        "ppv": (yes_N, called_N),
        "npv": (~yes_N, ~called_N),
    }
    return {name: Proportion(found=int((k & n).sum()), asked=int(n.sum())) for name, (k, n) in pairs.items()}


def proportion_columns(count: Proportion | None) -> dict[str, float]:
    """found, asked and both intervals as columns; empty where a metric is no proportion."""
    if count is None:
        return {}
    columns: dict[str, float] = {"found": count.found, "asked": count.asked}
    return columns | _ends("clopper_pearson", count.clopper_pearson) | _ends("wilson", count.wilson)


def gap_table(
    parts: Mapping[str, Judged], draws: Mapping[str, dict[Metric, np.ndarray]], class_names: Sequence[str]
) -> pd.DataFrame:
    """First split minus each other one, winner's scores, with intervals.

    Args:
        parts: split -> its winner on its own test part.
        draws: split -> metric -> (R,); draw r of every split counts the same groups, so shared patients cancel.
    """
    (first, own), *others = parts.items()
    rows = []
    for second, other in others:
        for metric, value in own.point.items():
            drawn = draws[first][metric] - draws[second][metric]
            row = {**_named(metric, class_names), "first": first, "second": second, "first_value": value}
            row |= {"second_value": other.point[metric], "gap": value - other.point[metric]}
            rows.append(row | _bootstrapped(drawn))
    return pd.DataFrame(rows)


def _named(metric: Metric, class_names: Sequence[str]) -> dict[str, str]:
    index = metric.class_index
    return {"metric": metric.name, "class": "" if index is None else class_names[index]}


def _shown(interval: Interval, kind: str) -> dict[str, float | str]:
    known = not math.isnan(interval.low)
    return {"low": interval.low, "high": interval.high, "interval": kind if known else NOT_ESTIMABLE}


def _bootstrapped(draws_R: np.ndarray) -> dict[str, float | str]:
    return _shown(bootstrap_interval(draws_R), BOOTSTRAP) | _ends("bootstrap", percentile_interval(draws_R))


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}
