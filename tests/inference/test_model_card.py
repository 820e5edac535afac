# ruff: noqa: F811  # pytest hands fixtures over by name
import json
import shutil

import pandas as pd
import pytest
import yaml

from tests.support.finished_search import SPLITS, Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.evaluation.evaluate import open_test_parts, seal_search
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.export import export_search
from tune_btxrd.scoring.cells import score_cell
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.subgroups import subgroup_table


@pytest.fixture(scope="module")
def cards(finished: Finished) -> tuple[str, str]:
    """The card of `stratified` after `export` and after `evaluate`."""
    for split in SPLITS:  # other tests may have evaluated the same search
        shutil.rmtree(finished.checkpoints / split / "evaluation", ignore_errors=True)
    folder = export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder
    before = (folder / "MODEL_CARD.md").read_text()
    sealed = seal_search(
        finished.checkpoints,
        results=finished.results,
        source=finished.source,
        manifest=finished.manifest,
        replicates=50,
        device="cpu",
    )
    open_test_parts(sealed)
    return before, (folder / "MODEL_CARD.md").read_text()


def test_head_is_yaml_that_hugging_face_reads(cards):
    head = yaml.safe_load(cards[0].split("---")[1])
    assert head["library_name"] == "timm" and head["license"] == "other" and "not-for-clinical-use" in head["tags"]
    assert head["pipeline_tag"] == "image-classification" and head["base_model"] == "timm/test_efficientnet"


def test_every_section_is_there_and_no_score_before_the_test_part_was_opened(cards):
    for heading in ("Use", "Data", "Audit findings", "Search", "Results", "Subgroups", "Limits", "Files"):
        assert f"\n## {heading}\n" in cards[0]
    assert "Not for clinical use" in cards[0] and "has not been opened" in cards[0] and "macro auc" not in cards[0]
    assert "| train | 34 | 22 | 11 |\n| val | 7 | 5 | 2 |\n| test | 7 | 5 | 3 |" in cards[0]


def test_scores_and_openings_after_evaluate(cards, finished):
    scores = pd.read_csv(finished.checkpoints / "stratified" / "evaluation" / "scores.csv")
    row = scores[(scores["model"] == "winner") & (scores["metric"] == "macro_auc")].iloc[0]
    assert f"| macro auc | {score_cell(dict(row))} |" in cards[1]
    assert "has been opened once for this search" in cards[1] and "| center | 1 |" in cards[1]


def test_manifest_knows_the_new_card(cards, finished):
    folder = finished.checkpoints / "stratified" / "export"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"]["MODEL_CARD.md"] == file_sha256(folder / "MODEL_CARD.md")


def test_scores_of_another_checkpoint_are_not_shown(cards, finished):
    path = finished.checkpoints / "stratified" / "evaluation" / "summary.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | {"checkpoints": {"winner": "other"}}))
    try:
        folder = export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder
    finally:
        path.write_text(text)
    assert "has not been opened" in (folder / "MODEL_CARD.md").read_text()


def test_a_dataset_without_subgroups_has_a_card_too(cards, finished):
    path = finished.checkpoints / "stratified" / "evaluation" / "subgroups.csv"
    text = path.read_text()
    try:
        for empty in (to_csv(subgroup_table([], [], ())), "opened\n"):  # as written now, and before
            path.write_text(empty)
            folder = export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder
            assert "\n## Subgroups\n\nThe dataset names none" in (folder / "MODEL_CARD.md").read_text()
    finally:
        path.write_text(text)
