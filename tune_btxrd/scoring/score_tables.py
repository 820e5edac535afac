"""The tables of an evaluation, as data frames: scores, differences, gap, operating points, calibration."""
# ruff: noqa: N803, N806
# (shape suffixes: N = images, R = bootstrap draws, C = classes)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tune_btxrd.scoring.cells import BOOTSTRAP, EXACT
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.scoring.intervals import NOT_ESTIMABLE, Interval, Proportion, bootstrap_interval, percentile_interval
from tune_btxrd.scoring.metrics import (
    PROPORTIONS,
    Metric,
    brier,
    calibration_error,
    confusions,
    log_loss,
    ones,
    scores,
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One model on one test part.

    Attributes:
        name: "winner" or "hand-made".
        logits: (N, C); targets: (N,).
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
        """(N, C), not calibrated: what decides the predicted class and every score but those of `calibration_table`."""
        return self.decisions.task.probabilities(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the most probable class."""
        return self.decisions.task.decide_logits(self.logits)

    def interval(self, metric: Metric) -> Interval:
        """The interval that is shown: exact for a share, else of the bootstrap over groups."""
        if metric.name in PROPORTIONS:
            return proportions(self.targets, self.predicted, self.logits.shape[1])[metric].clopper_pearson
        return bootstrap_interval(self.draws[metric])


def judge(
    name: str, logits_NC: np.ndarray, targets_N: np.ndarray, weights_RN: np.ndarray, *, decisions: Decisions, sha256: str
) -> Judged:
    """Scores a model's logits on the whole part and on every bootstrap draw."""
    task = decisions.task
    probabilities = task.probabilities(logits_NC)
    point = scores(probabilities, targets_N, ones(len(targets_N)), task=task)
    return Judged(
        name=name,
        checkpoint_sha256=sha256,
        logits=logits_NC,
        targets=targets_N,
        decisions=decisions,
        point={metric: float(values[0]) for metric, values in point.items()},
        draws=scores(probabilities, targets_N, weights_RN, task=task),
    )


def score_table(models: Sequence[Judged], class_names: Sequence[str]) -> pd.DataFrame:
    """One row per model and metric: value, its interval and of which kind that is.

    Beside it for whoever wants more: the plain percentiles of the bootstrap; of shares the count, exact and Wilson interval.
    """
    rows = []
    for model in models:
        counts = proportions(model.targets, model.predicted, len(class_names))
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


def proportions(targets_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> dict[Metric, Proportion]:
    """Every metric that is found / asked, as counts."""
    counts_CC = confusions(targets_N, predicted_N, classes, ones(len(targets_N)))[0].astype(int)
    total, found = int(counts_CC.sum()), {}
    found[Metric("accuracy")] = Proportion(found=int(np.trace(counts_CC)), asked=total)
    for index in range(classes):
        hit, real, called = (int(v) for v in (counts_CC[index, index], counts_CC[index].sum(), counts_CC[:, index].sum()))
        cells = {
            "sensitivity": (hit, real),
            "specificity": (total - real - called + hit, total - real),
            "ppv": (hit, called),
            "npv": (total - real - called + hit, total - called),
        }
        found |= {Metric(name, index): Proportion(found=k, asked=n) for name, (k, n) in cells.items()}
    assert {metric.name for metric in found} == set(PROPORTIONS)
    return found


def proportion_columns(count: Proportion | None) -> dict[str, float]:
    """found, asked and both intervals as columns; empty where a metric is no proportion."""
    if count is None:
        return {}
    columns: dict[str, float] = {"found": count.found, "asked": count.asked}
    return columns | _ends("clopper_pearson", count.clopper_pearson) | _ends("wilson", count.wilson)


def operating_table(models: Sequence[Judged], positive_class: int) -> pd.DataFrame:
    """Every operating point: what was asked and achieved on validation, and what it achieves here."""
    rows = []
    for model in models:
        positive = model.targets == positive_class
        calls = model.decisions.calls(model.logits)
        for point in model.decisions.operating_points:
            called = calls[point.name]
            counts = {
                "sensitivity": Proportion(found=int((called & positive).sum()), asked=int(positive.sum())),
                "specificity": Proportion(found=int((~called & ~positive).sum()), asked=int((~positive).sum())),
                "ppv": Proportion(found=int((called & positive).sum()), asked=int(called.sum())),
                "npv": Proportion(found=int((~called & ~positive).sum()), asked=int((~called).sum())),
            }
            chosen = {"val_sensitivity": point.val_sensitivity, "val_specificity": point.val_specificity}
            for name, count in counts.items():
                row = {"model": model.name, "operating_point": point.name, "threshold": point.threshold, **chosen}
                rows.append(row | {"metric": name, "value": count.value} | proportion_columns(count))
    return pd.DataFrame(rows)


def calibration_table(models: Sequence[Judged]) -> pd.DataFrame:
    """log_loss, brier and calibration_error before and after the calibration fitted on validation."""
    rows = []
    for model in models:
        after = model.decisions.calibration.probabilities(model.logits)
        for stage, probabilities in (("before", model.probabilities), ("after", after)):
            weights = ones(len(model.targets))
            values = {
                "log_loss": log_loss(probabilities, model.targets),
                "brier": float(brier(probabilities, model.targets, weights, task=model.decisions.task)[0]),
                "calibration_error": float(
                    calibration_error(probabilities, model.targets, weights, task=model.decisions.task)[0]
                ),
            }
            rows.append({"model": model.name, "calibration": stage, **values} | _fitted(model.decisions, stage))
    return pd.DataFrame(rows)


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


def _fitted(decisions: Decisions, stage: str) -> dict[str, float | str]:
    if stage == "before":
        return {}
    bias = " ".join(f"{value:+.3f}" for value in decisions.calibration.bias)
    return {"temperature": decisions.calibration.temperature, "bias": bias, "fitted_on": decisions.images}


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
