"""An evaluation of independent labels: tables, decisions, pictures, the count of openings, and where the winner looks."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from tests.support.finished_labels import KEYS, LABELS, finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import Finished
from tune_btxrd.evaluation.evaluate import Evaluation, open_test_parts, seal_search, summary_rows
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.inference.export import export_search
from tune_btxrd.report.opened_parts import read_opened_parts
from tune_btxrd.scoring.csv_tables import read_csv
from tune_btxrd.scoring.decisions import LABEL_RULE


def evaluate(search: Finished) -> Evaluation:
    sealed = seal_search(
        search.checkpoints,
        results=search.results,
        manifest=search.manifest,
        source=search.source,
        replicates=50,
        device="cpu",
    )
    return open_test_parts(sealed)


@pytest.fixture(scope="module")
def evaluations(finished_labels: Finished) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Opened twice; an export lies there before."""
    export_search(finished_labels.checkpoints, results=finished_labels.results, source=finished_labels.source)
    yield evaluate(finished_labels), evaluate(finished_labels)


def test_the_second_opening_is_counted_everywhere(evaluations, finished_labels):
    first, second = (found.splits[0] for found in evaluations)
    assert (second.opened, second.failures) == (first.opened + 1, ())
    assert f"opened {second.opened} times" in second.notes[0]
    for name in second.tables:
        assert set(read_csv(second.folder / f"{name}.csv")["opened"]) == {second.opened}, name
    part = read_opened_parts(finished_labels.checkpoints, LABELS[0], labels=LABELS)[0]
    assert part.opened == second.opened and [row["label"] for row in part.label_rows] == list(LABELS)


def test_predictions_are_what_the_scores_are_of(evaluations):
    """Decisions by the calibrated threshold of each label; scores over what is known, as scikit-learn has them."""
    found = evaluations[0].splits[0]
    table, scores = pd.read_csv(found.folder / "predictions.csv"), found.tables["scores"]
    winner = scores[scores["model"] == "winner"].set_index(["metric", "class"])["value"]
    assert found.images == len(table) and np.isnan(table["label_left_side"]).any(), "unknown is empty"
    for index, (key, name) in enumerate(zip(KEYS, LABELS, strict=True)):
        known = table[table[f"label_{key}"].notna()]
        threshold = found.winner.decisions.labels[index].threshold
        assert (table[f"decision_{key}"] == (table[f"calibrated_{key}"] >= threshold)).all()
        assert (table[f"decision_{key}"] == table[f"{name} at Youden"]).all()
        expected = sk.recall_score(known[f"label_{key}"], known[f"decision_{key}"])
        assert winner["sensitivity", name] == pytest.approx(expected)
        assert winner["auc", name] == pytest.approx(sk.roc_auc_score(known[f"label_{key}"], known[f"prob_{key}"]))
    assert any(LABEL_RULE in note for note in found.notes)


def test_subgroups_and_points_are_of_each_label(evaluations):
    tables = evaluations[0].splits[0].tables
    groups = tables["subgroups"]
    whole = tables["scores"].set_index(["model", "metric", "class"])["asked"]
    for name in LABELS:
        own = groups[(groups["model"] == "winner") & (groups["class"] == name) & (groups["metric"] == "sensitivity")]
        assert set(own["level"]) == {"1", "2"} and own["asked"].sum() == whole["winner", "sensitivity", name]
    assert set(tables["operating_points"]["class"]) == set(tables["calibration"]["class"]) == set(LABELS)
    labels = tables["labels"].set_index("class")
    assert labels.loc["left side", "unknown"] > labels.loc["bright", "unknown"]


def test_screen_pictures_and_card_tell_every_label(evaluations, finished_labels):
    found = evaluations[1].splits[0]
    told = {row[0] for row in summary_rows(found, LABELS)}
    assert {f"auc {name}" for name in LABELS} | {"exact match", "macro auc"} <= told
    for name in ("confusion", "roc", "pr", "reliability", "explain/sheet"):
        assert (found.folder / f"{name}.png").stat().st_size > 1000, name
    card = (finished_labels.checkpoints / "stratified" / "export" / "MODEL_CARD.md").read_text()
    assert "sigmoid(logit / temperature + bias)" in card and "softmax" not in card
    assert f"Decision: {LABEL_RULE}." in card and f"opened {found.opened} times" in card
    assert all(card.count(f"| {name} |") >= 3 for name in LABELS), "what was fitted, scores, subgroups"
    assert json.loads((found.folder / "summary.json").read_text())["images"].keys() == set(LABELS)


def test_explain_draws_a_row_per_label(finished_labels):
    found = explain_search(
        finished_labels.checkpoints,
        results=finished_labels.results,
        manifest=finished_labels.manifest,
        source=finished_labels.source,
        device="cpu",
    )
    assert found[0].sheet.stat().st_size > 1000 and found[0].pointing is None
