"""What verbs print of their results: tables for people, one JSON document for programs."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tune_btxrd.console import answer, make_table, say, show, warn
from tune_btxrd.files import write_whole

SAMPLES = 5  # random configs of a space, as `explain` shows them

if TYPE_CHECKING:
    from rich.table import Table

    from tune_btxrd.evaluation.evaluate import Evaluation
    from tune_btxrd.inference.predict import Predictions
    from tune_btxrd.search.space.spec import SearchSpec


def show_evaluation(found: "Evaluation") -> None:
    """Scores of winner and hand-made config per split, with notes and places."""
    from tune_btxrd.evaluation.evaluate import average_summary, average_tables, summary_rows

    for item in found.splits:
        rows = summary_rows(item, found.class_names)
        columns = ("metric", "winner", "hand-made", "difference")[: len(rows[0])]
        for warning in item.warnings:
            warn(f"{item.split}: {warning}")
        show(make_table(f"Test part of {item.split}, opened {item.opened} time(s); 95 % intervals", columns, rows))
        for name, columns, rows in average_tables(average_summary(item, found.class_names)):
            show(make_table(f"Test part of {item.split}: {name} beside the single winner", columns, rows))
        for note in item.notes:
            say(f"  {note}")
        say(f"  tables and pictures: {item.folder}")


def evaluation_document(found: "Evaluation") -> str:
    """The same as JSON: per split every table that `evaluate` writes."""
    splits = [
        {
            "split": item.split,
            "folder": str(item.folder),
            "opened": item.opened,
            "counts": dict(zip(found.class_names, item.counts, strict=True)),
            "warnings": list(item.warnings),
            "notes": list(item.notes),
            "tables": {name: json.loads(table.to_json(orient="records")) for name, table in item.tables.items()},
        }
        for item in found.splits
    ]
    gap = json.loads(found.gap.to_json(orient="records"))
    names = {"class_names": list(found.class_names), "positive_class": found.class_names[found.positive_class]}
    return json.dumps({"splits": splits, "gap": gap, "groups": found.groups, **names}, indent=1, ensure_ascii=False)


def space_document(spec: "SearchSpec") -> str:
    """A search space as JSON: its settings, dimensions and five random samples."""
    from tune_btxrd.search.study import blind_trials

    names = [item.name for item in dataclasses.fields(spec)]
    values = {name: getattr(spec, name) for name in names if name not in ("space", "constraint")}
    space = {item.name: {"range": item.describe(), **dataclasses.asdict(item)} for item in spec.space}
    samples = []
    for trial in blind_trials(spec, SAMPLES):
        spec.suggest(trial)
        samples.append(trial.params)
    document = {**values, "space": space, "constraint": list(map(str, spec.constraint)), "samples": samples}
    return json.dumps(document, indent=1, ensure_ascii=False, default=list)


def show_predictions(found: "Predictions", *, form: str, output: Path | None) -> None:
    """Prints or writes predictions as "table", "csv" or "json"; a file is CSV unless JSON is asked for."""
    if form == "table" and output is None:
        show(_prediction_table(found))
        return
    text = found.to_json() if form == "json" else found.to_csv()
    if output is None:
        answer(text)
    else:
        write_whole(output, text)


def _prediction_table(found: "Predictions") -> "Table":
    """What fits a terminal: file, class, the probability per class that decided it, calls as yes or no; of independent
    labels yes or no of each, with the probability that decided it.
    """
    names, table = found.info.class_names, found.table
    title = f"{len(found.files)} image(s), {found.info.backbone}; predicted: {found.rule}"
    if not found.info.task.exclusive:
        chances = found.probabilities if found.calibrated is None else found.calibrated
        rows = [
            (file.name, *(f"{'yes' if yes else 'no'} {chance:.3f}" for yes, chance in zip(said, own, strict=True)))
            for file, said, own in zip(found.files, found.predicted, chances, strict=True)
        ]
        return make_table(title, ("file", *names), rows)
    values = found.probabilities
    calls = [str(name) for name in table if " at " in str(name)]
    columns_of = {name: table[name].tolist() for name in ("predicted", *calls)}
    rows = [
        (
            file.name,
            columns_of["predicted"][index],
            *(f"{value:.3f}" for value in values[index]),
            *("yes" if columns_of[call][index] else "no" for call in calls),
        )
        for index, file in enumerate(found.files)
    ]
    columns = ("file", "predicted", *(f"probability {name}" for name in names), *calls)
    return make_table(title, columns, rows)
