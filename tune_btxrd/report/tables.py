"""The report's tables: as CSV with all digits, as LaTeX and on the page with those that mean something."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tune_btxrd.files import write_whole
from tune_btxrd.monitor import GAP, MONITORS, WORST
from tune_btxrd.report.gather import Material
from tune_btxrd.report.image_sizes import size_rows
from tune_btxrd.report.importance import Importances
from tune_btxrd.report.words import WORK_WORDS
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.search.columns import score_columns
from tune_btxrd.search.record import STATE_WORDS
from tune_btxrd.search.selection.winner import pareto_front
from tune_btxrd.search.tables import trials_table
from tune_btxrd.tasks.record import UNDEFINED, shown

PRINTED = 500  # rows of a LaTeX table at most; a paper has no room for more, and each takes 2 ms


MOST_ASSESSED = 20  # rows of the table of the recommendation


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table.

    Attributes:
        name: of its files; title: above it.
        frame: values with all digits.
        formats: column -> how a value is shown; a column without one is shown as it is.
        missing: what stands for a missing value.
    """

    name: str
    title: str
    frame: pd.DataFrame
    formats: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    missing: str = ""

    def text(self) -> pd.DataFrame:
        """The table as strings."""
        cells = {
            column: [
                self.missing if pd.isna(value) else self.formats.get(str(column), str)(value) for value in self.frame[column]
            ]
            for column in self.frame
        }
        return pd.DataFrame(cells, dtype=str)

    def write(self, folder: Any) -> None:
        """`<name>.csv` and `<name>.tex` (booktabs; of a very long table its first rows, as its caption says)."""
        write_whole(folder / f"{self.name}.csv", to_csv(self.frame))
        text, title = self.text(), self.title
        if len(text) > PRINTED:
            text, title = text[:PRINTED], f"{title} (the first {PRINTED} of {len(text):,}; all are in {self.name}.csv)"
        long = len(text) > 40
        latex = text.to_latex(index=False, escape=True, caption=_escaped(title), label=f"tab:{self.name}", longtable=long)
        write_whole(folder / f"{self.name}.tex", latex)


def sheets(material: Material, found: Importances | None) -> dict[str, Sheet]:
    """Every table that the search has something for, by name."""
    made = [confirmation_sheet(material), final_sheet(material), _test_sheet(material), _average_sheet(material)]
    made.append(_label_sheet(material))
    made += [recommendation_sheet(material)]
    made += [_point_sheet(material), _importance_sheet(found), _pareto_sheet(material), _gap_sheet(material)]
    made += [_rung_sheet(material), _size_sheet(material), _slot_sheet(material), trial_sheet(material)]
    return {sheet.name: sheet for sheet in made if sheet is not None and len(sheet.frame)}


def confirmation_sheet(material: Material) -> Sheet | None:
    """Confirmed configs, best first: every repeat, mean, spread, gain over the hand-made config, optimism."""
    if not material.selection or not material.selection.standings:
        return None
    rows = []
    for item in material.selection.standings:
        repeats = {f"repeat {number}": score for number, score in enumerate(item.shown_scores, start=1)}
        hand_made = " (hand-made)" if item.trial.is_hand_made else ""
        rows.append(
            {
                "trial": item.trial.label + hand_made,
                "search score": item.trial.score,
                **repeats,
                "mean": item.shown_mean if item.scores else None,
                "std": item.std if item.scores else None,
                "with the model": material.monitor.score(item.decisive) if item.decisive != item.mean else None,
                "gain over hand-made [95 %]": str(item.gain) if item.gain else None,
                "optimism": item.optimism if item.scores else None,
            }
        )
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    numbers = [str(c) for c in frame if str(c).startswith("repeat ")] + ["search score", "mean", "std", "with the model"]
    formats = dict.fromkeys(numbers, _four) | {"optimism": "{:+.4f}".format}
    return Sheet(
        name="confirmation", title=f"Confirmation: {material.monitor.label} of every repeat", frame=frame, formats=formats
    )


def recommendation_sheet(material: Material) -> Sheet | None:
    """The best trials, best first: the value that was observed, that expected at full length, and that of the model."""
    if not material.recommendation or not material.recommendation.assessed:
        return None
    show = material.monitor.score
    rows = [
        {
            "trial": item.trial.label,
            "state": item.trial.state_words,
            "epochs": len(item.trial.epochs),
            "observed": show(item.observed),
            "at full length": show(item.completed),
            "doubt": item.doubt,
            "by the model": None if item.modelled is None else show(item.modelled),
        }
        for item in material.recommendation.assessed[:MOST_ASSESSED]
    ]
    formats: dict[str, Callable[[Any], str]] = dict.fromkeys(("observed", "at full length", "by the model"), _four)
    title = f"The best trials by all that was observed: {material.monitor.label}, doubt as a share of the error"
    frame = pd.DataFrame(rows)
    return Sheet(name="recommendation", title=title, frame=frame, formats=formats | {"doubt": "{:.1%}".format})


def final_sheet(material: Material) -> Sheet | None:
    """The final job: every training at its best epoch."""
    if not material.trainings:
        return None
    source = material.settings.source
    titles = score_columns(source.class_names, task=source.task)
    rows = []
    for training in material.trainings:
        best = training.best
        rows.append(
            {
                "split": training.split,
                "config": training.title,
                **{title: best.get(column) for column, title in titles.items()},
                "best epoch": int(best["epoch"]),
                "epochs": len(training.log),
            }
        )
    for listed in material.averages:
        if listed.scores:
            values = {title: listed.scores.get(column) for column, title in titles.items()}
            rows.append({"split": listed.split, "config": listed.title, **values, "best epoch": "", "epochs": ""})
    formats = dict.fromkeys(titles.values(), _two) | {titles["val_loss"]: _four}
    title = "Final job: validation at each best epoch, and averages of the seeds"
    title = title if any(row["epochs"] == "" for row in rows) else title.partition(",")[0]
    return Sheet(name="final_job", title=title, frame=pd.DataFrame(rows), formats=formats, missing=UNDEFINED)


def _test_sheet(material: Material) -> Sheet | None:
    """Winner and hand-made config on the test parts, with intervals and how often each part was opened."""
    rows = [{"split": part.split, **row, "opened": part.opened} for part in material.opened_parts for row in part.rows]
    title = "Test parts: score (95 % interval, counts of a share)"
    return Sheet(name="test_scores", title=title, frame=pd.DataFrame(rows)) if rows else None


def _average_sheet(material: Material) -> Sheet | None:
    """Ensemble and soup beside the winner on the test parts."""
    rows = [{"split": part.split, **row} for part in material.opened_parts for row in part.average_rows]
    title = "Test parts: averages of several trainings beside the single winner (95 % interval; differences are paired)"
    return Sheet(name="test_averages", title=title, frame=pd.DataFrame(rows)) if rows else None


def _label_sheet(material: Material) -> Sheet | None:
    """The winner on the test parts, label by label; only of independent labels."""
    rows = [{"split": part.split, **row, "opened": part.opened} for part in material.opened_parts for row in part.label_rows]
    title = "Test parts, winner by label: score (95 % interval, counts of a share)"
    return Sheet(name="test_labels", title=title, frame=pd.DataFrame(rows)) if rows else None


def _point_sheet(material: Material) -> Sheet | None:
    """Operating points of both configs on the test parts."""
    rows = [{"split": part.split, **row, "opened": part.opened} for part in material.opened_parts for row in part.points]
    asked = "each label" if rows and "label" in rows[0] else material.positive_class
    title = f"Operating points for {asked}, chosen on validation, on the test parts (exact 95 % intervals)"
    return Sheet(name="operating_points", title=title, frame=pd.DataFrame(rows)) if rows else None


def trial_sheet(material: Material) -> Sheet | None:
    """Every trial of the search and of its confirmation."""
    whole = trials_table(material.record)
    if not len(whole):
        return None
    params = list(dict.fromkeys(name for trial in material.record.search_trials for name in trial.params))
    wanted = ["trial", "state", "objective", material.recall, "best_epoch", "epochs", *params, "seconds", "reason"]
    whole["objective"] = [None if pd.isna(value) else material.monitor.score(value) for value in whole["objective"]]
    frame = whole.reindex(columns=wanted).astype({"best_epoch": "Int64"}).astype(object)
    frame = frame.where(frame.notna(), None)
    recall = f"recall {material.positive_class}"
    score = f"best {material.monitor.label}"
    frame = frame.rename(columns={"objective": score, material.recall: recall, "best_epoch": "best epoch"})
    formats: dict[str, Callable[[Any], str]] = dict.fromkeys(params, short)
    formats |= {score: _four, recall: _two, "seconds": _whole}
    return Sheet(name="trials", title="All trials", frame=frame, formats=formats)


def _importance_sheet(found: Importances | None) -> Sheet | None:
    if found is None:
        return None
    rows = [
        {
            "hyperparameter": i.name,
            "share": i.value,
            "low": i.low,
            "high": i.high,
            "by chance": i.by_chance,
            "verdict": i.verdict,
        }
        for i in found.items
    ]
    formats = dict.fromkeys(("share", "low", "high", "by chance"), "{:.0%}".format)
    title = "Importance for being among the best (PED-ANOVA), 95 % bootstrap interval"
    return Sheet(name="importance", title=title, frame=pd.DataFrame(rows), formats=formats)


def _pareto_sheet(material: Material) -> Sheet | None:
    front = pareto_front(material.record, material.recall)
    recall = f"recall {material.positive_class}"
    rows = [
        {"trial": t.label, material.monitor.label: t.score, recall: t.best[material.recall], **t.params}
        for t in front
        if t.best
    ]
    params = {name: short for trial in front for name in trial.params}
    return Sheet(
        name="pareto",
        title=f"Trials that no other beats in both {material.monitor.label} and {material.positive_class} recall",
        frame=pd.DataFrame(rows),
        formats={material.monitor.label: _four, recall: _two, **params},
    )


def _gap_sheet(material: Material) -> Sheet | None:
    """The front of the monitored value and the gap between centers, with the other of "all images" and "worst center"."""
    front, label = pareto_front(material.record, GAP), material.monitor.label
    if material.spec is None:
        return None
    plain, names = MONITORS[material.spec.monitor], score_columns()
    other = (plain.column, plain.label) if material.monitor.column == WORST else (WORST, names[WORST])
    rows = [
        {"trial": t.label, label: t.score, other[1]: t.best[other[0]], names[GAP]: t.best[GAP], **t.params}
        for t in front
        if t.best
    ]
    params = {name: short for trial in front for name in trial.params}
    return Sheet(
        name="center_gap",
        title=f"Trials that no other beats in both {label} and the gap between validation centers",
        frame=pd.DataFrame(rows),
        formats={**dict.fromkeys((label, other[1], names[GAP]), _four), **params},
    )


def _size_sheet(material: Material) -> Sheet | None:
    """What each image size cost and gave, where several are searched."""
    label = f"best {material.monitor.label}"
    rows = [
        {
            "image size, px": row.size,
            "trials": row.trials,
            "epochs": row.epochs,
            "seconds an epoch": row.seconds,
            "relative": row.cost,
            "by pixels": row.pixels,
            "share of the time": row.share,
            label: row.best.score if row.best else None,
            "trial": row.best.label if row.best else None,
        }
        for row in size_rows(material.record, material.spec)
    ]
    formats = {"seconds an epoch": "{:.3g}".format, "relative": _two, "by pixels": _two, label: _four}
    return Sheet(
        name="sizes",
        title="Image sizes: what an epoch cost, what was spent, the best trial",
        frame=pd.DataFrame(rows),
        formats=formats | {"share of the time": "{:.0%}".format},
    )


def _rung_sheet(material: Material) -> Sheet | None:
    others = "others there" if material.spec and material.spec.scheduler == "promote" else "before it"
    rows = [
        {
            "trial": visit.trial.label,
            "rung": visit.rung,
            "epoch": visit.epoch,
            material.monitor.label: visit.score,
            "cutoff": visit.shown_cutoff,
            others: visit.before,
            "outcome": STATE_WORDS["pruned"] if visit.cut else "went on",
        }
        for visit in material.visits
    ]
    formats = {material.monitor.label: _four, "cutoff": _four, "rung": "{:g}".format}
    return Sheet(
        name="rungs", title="Arrivals at ASHA's rungs, in the order of time", frame=pd.DataFrame(rows), formats=formats
    )


def _slot_sheet(material: Material) -> Sheet | None:
    if material.slots is None:
        return None
    use = material.slots
    rows = [{"work": WORK_WORDS[w], "seconds": use.seconds[w], "share": use.share(w)} for w in WORK_WORDS]
    formats = {"seconds": _whole, "share": "{:.0%}".format}
    return Sheet(name="slot_time", title="Where the slots' time went", frame=pd.DataFrame(rows), formats=formats)


def short(value: Any) -> str:
    """A hyperparameter as a person reads it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _four(value: float) -> str:
    return shown(value, 4)


def _two(value: float) -> str:
    return shown(value, 2)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _escaped(text: str) -> str:
    """A caption for LaTeX, which `to_latex` takes as it is."""
    marks = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(marks.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)
