"""What must be known beside the numbers of an evaluation, and its predictions per image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd_facts import check_facts, is_complete
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.evaluation.reference import reference_for
from tune_btxrd.scoring.cells import FOOTNOTE
from tune_btxrd.scoring.metrics import Metric
from tune_btxrd.scoring.score_tables import Judged


def prediction_table(model: Judged, rows: np.ndarray, manifest: Manifest) -> pd.DataFrame:
    """One row per test image: label, prediction, logits, probabilities, calibrated ones, calls at operating points."""
    names = manifest.class_names
    columns: dict[str, np.ndarray | list[str]] = {
        "image_id": [manifest.image_ids[row] for row in rows],
        "label": manifest.task.texts(model.targets, names),
        "predicted": manifest.task.texts(model.predicted, names),
    }
    calibrated = model.decisions.calibration.probabilities(model.logits)
    for prefix, values in (("logit", model.logits), ("probability", model.probabilities), ("calibrated", calibrated)):
        columns |= {f"{prefix}_{name}": values[:, index] for index, name in enumerate(names)}
    columns |= {
        f"{names[manifest.positive_class]} at {name}": call for name, call in model.decisions.calls(model.logits).items()
    }
    return pd.DataFrame(columns)


def plain_scores(point: dict[Metric, float], names: Sequence[str]) -> dict[str, float]:
    """Scores by name, those of one class with the class's name."""
    return {m.name if m.class_index is None else f"{m.name} {names[m.class_index]}": value for m, value in point.items()}


def opening_note(split: Split, opened: int) -> str:
    """How often the test part has been opened."""
    times = "once" if opened == 1 else f"{opened} times"
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
