"""What must be known beside the numbers of an evaluation, and its predictions per image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd_facts import check_facts, is_complete
from tune_btxrd.data.splits.splits import HOLDOUT, Split
from tune_btxrd.evaluation.reference import reference_for
from tune_btxrd.scoring.cells import FOOTNOTE
from tune_btxrd.scoring.decisions import listed
from tune_btxrd.scoring.label_metrics import label_table
from tune_btxrd.scoring.metrics import Metric
from tune_btxrd.scoring.score_tables import Judged
from tune_btxrd.search.columns import class_keys


def prediction_table(model: Judged, rows: np.ndarray, manifest: Manifest) -> pd.DataFrame:
    """One row per test image: target, decision, logits, probabilities, calibrated ones, calls at operating points."""
    names, labels = manifest.class_names, bool(model.decisions.labels)
    calibrated = model.decisions.calibration.probabilities(model.logits)
    columns: dict[str, np.ndarray | list[str]] = {"image_id": [manifest.image_ids[row] for row in rows]}
    if labels:
        keys, answers = class_keys(names), model.answers
        true = np.where(answers.known_NC, answers.yes_NC.astype(int).astype(str), "")
        columns |= {f"label_{key}": true[:, index].tolist() for index, key in enumerate(keys)}
        columns |= {f"decision_{key}": answers.called_NC[:, index].astype(int) for index, key in enumerate(keys)}
    else:
        keys = tuple(names)
        columns["label"] = manifest.task.texts(model.targets, names)
        columns["predicted"] = manifest.task.texts(model.predicted, names)
    probability = "prob" if labels else "probability"
    for prefix, values in (("logit", model.logits), (probability, model.probabilities), ("calibrated", calibrated)):
        columns |= {f"{prefix}_{key}": values[:, index] for index, key in enumerate(keys)}
    return pd.DataFrame(columns | model.decisions.named_calls(model.logits, names))


def label_notes(model: Judged, class_names: Sequence[str]) -> Iterator[str]:
    """Of independent labels: what decides, and which are left out of the means."""
    if not model.decisions.labels:
        return
    yield f"Decisions: {model.decisions.rule}. What is unknown of an image adds to no score."
    table = label_table(model.answers, class_names)
    left = table[~table["in_means"]]
    if len(left):
        told = [f"{row['class']} ({row['yes']} yes, {row['no']} no)" for _, row in left.iterrows()]
        yield f"Left out of every mean over labels, since the test part knows no yes or no no of them: {listed(told)}."


def plain_scores(point: dict[Metric, float], names: Sequence[str]) -> dict[str, float]:
    """Scores by name, those of one class with the class's name."""
    return {m.name if m.class_index is None else f"{m.name} {names[m.class_index]}": value for m, value in point.items()}


def opening_note(split: Split, opened: int) -> str:
    """How often the test part has been opened."""
    times = "once" if opened == 1 else f"{opened} times"
    if split.name == HOLDOUT:
        return f"The hold-out of the label store has been opened {times}, by whichever search."
    return f"The test part of {split.name!r} has been opened {times} for this search."


def chosen_note(split: Split, searched: Path | None) -> Iterator[str]:
    """Says how many images of the test part the search trained or validated on, where it did.

    Args:
        searched: the file of the split that the search saw; None where there was no search.
    """
    if searched is None or not searched.is_file():
        return
    table = pd.read_csv(searched, dtype=str, keep_default_na=False)
    seen = set(table.loc[table["part"].isin(["train", "val"]), "image_id"]) & set(split.parts["test"])
    if seen:
        yield f"config chosen on {len(seen)} images of this test part"


def interval_notes(groups: str, count: int, replicates: int) -> Iterator[str]:
    """What the intervals rest on: `count` groups of a kind."""
    yield f"{FOOTNOTE} Bootstrap: {replicates} draws of {count} groups ({groups})."
    if groups != "patients":
        yield "The dataset does not tell patients apart, so intervals are too narrow where one has several images."


def reference_note(split: Split, manifest: Manifest, *, backbone: str, image_size: int) -> Iterator[str]:
    """The published scores, only for the full BTXRD and exactly the published test part."""
    reference = reference_for(split.parts["test"])
    if reference and is_complete(manifest) and not check_facts(manifest):
        yield f"{reference}; ours: {backbone} at {image_size} px, searched"
