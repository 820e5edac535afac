"""Tables of what was fitted on validation and what it achieves on a test part: operating points and calibration."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.scoring.label_metrics import label_scores, yes_no_log_loss
from tune_btxrd.scoring.metrics import Metric, brier, calibration_error, log_loss, ones
from tune_btxrd.scoring.score_tables import Judged, proportion_columns, yes_no_counts

CALIBRATED = {"brier": brier, "calibration_error": calibration_error}


def operating_table(models: Sequence[Judged], class_names: Sequence[str]) -> pd.DataFrame:
    """Every operating point: what was asked and achieved on validation, and what it achieves here.

    Those of independent labels name their label in a column `class`.
    """
    rows: list[dict[str, object]] = []
    for model in models:
        for index in model.decisions.asked:
            known, yes, _ = model.answers.one(index)
            calls = model.decisions.calls(model.logits, index=index)
            named = {"class": class_names[index]} if model.decisions.labels else {}
            for point in model.decisions.points_of(index):
                head = {"model": model.name, **named, "operating_point": point.name, "threshold": point.threshold}
                head |= {"val_sensitivity": point.val_sensitivity, "val_specificity": point.val_specificity}
                for name, count in yes_no_counts(yes, calls[point.name][known]).items():
                    rows.append({**head, "metric": name, "value": count.value} | proportion_columns(count))
    return pd.DataFrame(rows)


def calibration_table(models: Sequence[Judged], class_names: Sequence[str]) -> pd.DataFrame:
    """log_loss, brier and calibration_error before and after the calibration fitted on validation; of independent labels a
    row each, named in a column `class`.
    """
    rows = []
    for model in models:
        after = model.decisions.calibration.probabilities(model.logits)
        for stage, probabilities in (("before", model.probabilities), ("after", after)):
            for name, values in _calibration_values(model, probabilities, class_names):
                named = {"class": name} if model.decisions.labels else {}
                fitted = _fitted(model.decisions, name, class_names) if stage == "after" else {}
                rows.append({"model": model.name, **named, "calibration": stage, **values} | fitted)
    return pd.DataFrame(rows)


def _calibration_values(
    model: Judged, probabilities: np.ndarray, class_names: Sequence[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """("", values) of exclusive classes together; (name, values) of each independent label."""
    weights, task = ones(len(model.targets)), model.decisions.task
    if task.exclusive:
        measured = {name: measure(probabilities, model.targets, weights, task=task) for name, measure in CALIBRATED.items()}
        values = {name: float(found[0]) for name, found in measured.items()}
        yield "", {"log_loss": log_loss(probabilities, model.targets)} | values
        return
    found = label_scores(probabilities, model.answers, weights)
    for index, name in enumerate(class_names):
        known, yes, _ = model.answers.one(index)
        chance = probabilities[known, index]
        values = {metric: float(found[Metric(metric, index)][0]) for metric in CALIBRATED}
        yield name, {"log_loss": yes_no_log_loss(chance, yes)} | values


def _fitted(decisions: Decisions, name: str, class_names: Sequence[str]) -> dict[str, float | str]:
    """What was fitted, of exclusive classes or of the independent label of this name."""
    calibration = decisions.calibration
    if not name:
        bias = " ".join(f"{value:+.3f}" for value in calibration.bias)
        return {"temperature": calibration.temperatures[0], "bias": bias, "fitted_on": decisions.images}
    index = list(class_names).index(name)
    bias, images = f"{calibration.bias[index]:+.3f}", decisions.labels[index].images
    return {"temperature": calibration.temperatures[index], "bias": bias, "fitted_on": images}
