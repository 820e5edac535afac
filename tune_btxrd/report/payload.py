"""Data of the page's pictures as JSON: rounded numbers, null where one is not finite."""

import json
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from tune_btxrd.report.charts import MOST_ROWS
from tune_btxrd.report.gather import Material
from tune_btxrd.report.image_sizes import size_rows
from tune_btxrd.report.importance import Importances
from tune_btxrd.report.landscape import Landscape
from tune_btxrd.search.columns import class_columns
from tune_btxrd.search.record import STATE_WORDS, TrialRecord
from tune_btxrd.search.rungs import rung_epochs
from tune_btxrd.search.selection.winner import pareto_front
from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.tasks.registry import task_named

DIGITS = 5  # significant


def payload(material: Material, found: Importances | None, surface: Landscape | None) -> dict[str, object]:
    """Numbers, names and settings that `charts.js` draws."""
    spec, record = material.spec, material.record
    everyone = [*record.search_trials, *record.confirmations]
    source = material.settings.source
    columns = ["epoch", "train_loss", "val_loss", *class_columns(task_named(source.task).watched, source.class_names)]
    columns += [material.monitor.column] if material.monitor.column not in columns else []
    shared = _shared(everyone)
    visits: dict[str, list[str]] = {}
    for visit in material.visits:
        visits.setdefault(visit.trial.label, []).append(str(visit))
    return {
        "name": material.settings.name,
        "positive": material.positive_class,
        "recall": columns.index(material.recall),
        "columns": columns,
        "monitor": {
            "column": material.monitor.column,
            "label": material.monitor.label,
            "higher": material.monitor.higher_is_better,
        },
        "states": STATE_WORDS,
        "epochs": spec.epochs if spec else 0,
        "rungs": rung_epochs(spec) if spec else [],
        "dimensions": [_dimension(d) for d in spec.space] if spec else [],
        "shared": shared,
        "trials": [_trial(trial, columns, shared, visits.get(trial.label, []), material) for trial in everyone],
        "cutoffs": [
            {"epoch": v.epoch, "cutoff": number(v.shown_cutoff), "trial": v.trial.label} for v in material.visits if v.cut
        ],
        "front": [trial.label for trial in pareto_front(record, material.recall)],
        "importance": [{**vars(item)} for item in found.items] if found else [],
        "landscape": _landscape(surface),
        "sizes": _sizes(material),
        "slots": _slots(material),
        "standings": _standings(material),
        "assessed": _assessed(material),
        "trainings": [_training(t.split, t.title, t.log, columns) for t in material.trainings],
    }


def _sizes(material: Material) -> list[dict[str, object]]:
    return [
        {
            "size": row.size,
            "seconds": number(row.seconds),
            "pixels": number(row.pixels),
            "best": number(row.best.score if row.best else None),
        }
        for row in size_rows(material.record, material.spec)
    ]


def to_script(content: object) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    for mark, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(mark, code)
    return text


def number(value: object) -> object:
    """A number with DIGITS significant digits; None for one that is not finite; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return value
    plain = float(value)
    if not math.isfinite(plain):
        return None
    return int(plain) if plain.is_integer() and abs(plain) < 1e15 else float(f"{plain:.{DIGITS}g}")


def _shared(trials: Iterable[TrialRecord]) -> dict[str, object]:
    """Hyperparameters with one value in all configs: written once instead of in each trial."""
    configs = [trial.config for trial in trials]
    first = configs[0] if configs else {}
    return {k: v for k, v in first.items() if all(k in config and config[k] == v for config in configs)}


def _dimension(dimension: Dimension) -> dict[str, object]:
    choices = None if dimension.choices is None else [str(choice) for choice in dimension.choices]
    return {"name": dimension.name, "log": dimension.log, "low": dimension.low, "high": dimension.high, "choices": choices}


def _trial(
    trial: TrialRecord, columns: list[str], shared: dict[str, object], visits: list[str], material: Material
) -> dict[str, object]:
    best = trial.best or {}
    return {
        "label": trial.label,
        "number": trial.number,
        "role": trial.role,
        "state": trial.state,
        "reason": trial.told_reason,
        "params": {name: number(value) for name, value in trial.params.items()},
        "config": {name: value for name, value in trial.config.items() if name not in shared},
        "objective": number(trial.objective),
        "score": number(trial.score),
        "shown": trial.shown,
        "bestEpoch": best.get("epoch"),
        "bestRecall": number(best.get(material.recall)),
        "visits": visits,
        "rows": [[number(row.get(column)) for column in columns] for row in trial.epochs],
    }


def _landscape(surface: Landscape | None) -> dict[str, object] | None:
    if surface is None:
        return None
    return {
        "x": surface.x.name,
        "y": surface.y.name,
        "xs": [number(v) for v in surface.xs],
        "ys": [number(v) for v in surface.ys],
        "z": [[number(v) for v in row] for row in surface.z],
    }


def _slots(material: Material) -> dict[str, object] | None:
    use = material.slots
    if use is None:
        return None
    spans = [[s.trial.label, s.lane, *(round(v, 1) for v in (s.begin, s.first, s.end))] for s in use.spans]
    return {
        "unit": use.unit,
        "lanes": use.lanes,
        "spans": spans,
        "downtime": [[round(v, 1) for v in gap] for gap in use.downtime],
    }


def _standings(material: Material) -> list[dict[str, object]]:
    items = material.selection.standings if material.selection else ()
    return [
        {
            "trial": i.trial.label,
            "handMade": i.trial.is_hand_made,
            "search": number(i.trial.score),
            "scores": [number(v) for v in i.shown_scores],
            "mean": number(i.shown_mean),
        }
        for i in items
    ]


def _assessed(material: Material) -> list[dict[str, object]]:
    items = material.recommendation.assessed[:MOST_ROWS] if material.recommendation else ()
    show = material.monitor.score
    return [
        {
            "trial": i.trial.label,
            "observed": number(show(i.observed)),
            "completed": number(show(i.completed)),
            "modelled": None if i.modelled is None else number(show(i.modelled)),
        }
        for i in items
    ]


def _training(split: str, title: str, log: pd.DataFrame, columns: list[str]) -> dict[str, object]:
    wanted = [str(name) for name in log if name in columns]
    return {"split": split, "title": title, "rows": {name: [number(v) for v in log[name].tolist()] for name in wanted}}
