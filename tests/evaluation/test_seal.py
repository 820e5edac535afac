"""The seal is broken last: what can fail without looking at a test part fails before its opening is logged; what fails
later costs no score. And every place that shows a score shows the same cell.
"""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.finished_search import Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.evaluation.evaluate import Evaluation, open_test_parts, seal_search, summary_rows
from tune_btxrd.evaluation.evaluate_split import require_test_parts
from tune_btxrd.evaluation.openings import read_openings
from tune_btxrd.inference.export import export_search
from tune_btxrd.pipeline import finished as verbs
from tune_btxrd.report.opened_parts import read_opened_parts
from tune_btxrd.scoring.cells import difference_cell, score_cell
from tune_btxrd.scoring.csv_tables import read_csv


@pytest.fixture
def search(finished: Finished, tmp_path: Path) -> Finished:
    """A copy whose test parts nobody has opened."""
    shutil.copytree(finished.checkpoints, tmp_path / "toy", ignore=shutil.ignore_patterns("evaluation", "export"))
    return replace(finished, checkpoints=tmp_path / "toy")


def run(search: Finished, **changes: object) -> Evaluation:
    given: dict[str, object] = {"source": search.source, "results": search.results, "manifest": search.manifest}
    return open_test_parts(seal_search(search.checkpoints, **(given | {"replicates": 100, "device": "cpu"} | changes)))


def openings(search: Finished) -> int:
    return sum(len(read_openings(folder)) for folder in search.checkpoints.glob("*/evaluation"))


def test_a_damaged_checkpoint_of_the_last_split_opens_nothing(search: Finished):
    path = search.checkpoint("stratified")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ResultError, match="cut off"):
        run(search)
    assert openings(search) == 0


def test_a_damaged_seed_opens_nothing(search: Finished):
    (search.checkpoints / "center" / "seed_43").mkdir()
    (search.checkpoints / "center" / "seed_43" / "best.pt").write_bytes(b"x")
    with pytest.raises(ResultError, match="seed_43"):
        run(search)
    assert openings(search) == 0


def test_a_folder_that_cannot_be_written_opens_nothing(search: Finished):
    (search.checkpoints / "center" / "evaluation").write_text("a file where a folder is meant")
    with pytest.raises(ResultError, match="must be writable"):
        run(search)
    assert openings(search) == 0


def test_a_model_of_other_classes_opens_nothing(search: Finished):
    path = search.checkpoint("center")
    torch.save(torch.load(path, weights_only=True) | {"class_names": ["Normal", "Benign", "Worse"]}, path)
    with pytest.raises(ResultError, match="must be of this dataset"):
        run(search)
    assert openings(search) == 0


@pytest.mark.parametrize("where", ["score_figures.draw_figures", "explain.explain_part"])
def test_what_fails_after_the_scores_is_told_and_loses_none(search: Finished, monkeypatch: pytest.MonkeyPatch, where: str):
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"tune_btxrd.evaluation.{where}", fails)
    found = run(search)
    assert openings(search) == 2
    for split in found.splits:
        assert len(split.failures) == 1 and "No space left" in split.failures[0]
        assert len(pd.read_csv(split.folder / "scores.csv")) == len(split.tables["scores"]) > 20
        assert json.loads((split.folder / "summary.json").read_text())["split"] == split.split


def test_a_bug_in_a_picture_comes_after_the_scores_of_all_splits(search: Finished, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tune_btxrd.evaluation.score_figures.draw_figures", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(search)
    for split in ("stratified", "center"):
        assert (search.checkpoints / split / "evaluation" / "scores.csv").is_file()
        assert (search.checkpoints / split / "evaluation" / "summary.json").is_file()


def test_screen_report_card_and_file_show_the_same_cells(search: Finished):
    """Each metric's cell, digit by digit; shares have the exact interval, and no two ends of a bootstrap are equal."""
    export_search(search.checkpoints, results=search.results, source=search.source)
    found = run(search)
    names, positive = found.class_names, found.positive_class
    reported = {part.split: part for part in read_opened_parts(search.checkpoints, names[positive])}
    for split in found.splits:
        screen = {row[0]: row[1:] for row in summary_rows(split, names)}
        report = {row["metric"]: tuple(list(row.values())[1:]) for row in reported[split.split].rows}
        assert screen == report
        card = (search.checkpoints / split.split / "export" / "MODEL_CARD.md").read_text()
        scores, differences = read_csv(split.folder / "scores.csv"), read_csv(split.folder / "differences.csv")
        for metric, cells in screen.items():
            assert f"| {metric} | {cells[0]} | {cells[1]} |" in card
            for number, model in enumerate(("winner", "hand-made")):
                row = only(scores, metric, model)
                assert cells[number] == score_cell(row)
                if not pd.isna(row["found"]) and row["asked"]:
                    assert row["interval"] == "Clopper-Pearson" and row["low"] == row["clopper_pearson_low"]
                    assert f"{row['low']:.3f}-{row['high']:.3f}, {row['found']:.0f}/{row['asked']:.0f}" in cells[number]
            assert cells[2] == difference_cell(only(differences, metric, None))
        every = " ".join(cell for cells in screen.values() for cell in cells)
        assert "nan" not in every and not re.search(r"\(([+-]?\d\.\d{3})(-| to )\1\)", every)


def only(table: pd.DataFrame, label: str, model: str | None) -> dict[str, object]:
    mine = table if model is None else table[table["model"] == model]
    for _, row in mine.iterrows():
        name = "calibration error (ECE, 15 equal bins)" if row["metric"] == "calibration_error" else row["metric"]
        if f"{name.replace('_', ' ')} {row['class']}".strip() == label:
            return dict(row)
    raise AssertionError(label)


def test_a_split_without_a_test_part_is_refused_before_another_is_opened(search: Finished, tmp_path: Path):
    results = tmp_path / "toy_results"
    shutil.copytree(search.results, results)
    path = results / "splits" / "stratified.csv"
    path.write_text(path.read_text().replace(",test,", ",val,"))
    with pytest.raises(ResultError, match="needs a test part"):
        run(search, results=results)
    assert openings(search) == 0


def test_nothing_is_announced_that_can_still_fail(search: Finished, monkeypatch: pytest.MonkeyPatch):
    """The user is asked once all preparations are done, and nothing is logged where the answer is no."""
    heard: list[list[str]] = []

    def no(splits: list[str]) -> None:
        heard.append(splits)
        raise ConfigError("no")

    request = DataRequest(data=search.data, cache=Path(search.source.cache).parent)
    found = SimpleNamespace(checkpoints=search.checkpoints), [], search.source, request, search.manifest
    monkeypatch.setattr(verbs, "_retrained", lambda *_, **__: found)
    path = search.checkpoint("stratified")
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(ResultError, match="cut off"):
        verbs.evaluate("toy", storage=str(search.results.parent), device="cpu", agreed=no)
    assert not heard
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match="no"):
        verbs.evaluate("toy", storage=str(search.results.parent), device="cpu", agreed=no)
    assert [set(splits) for splits in heard] == [{"stratified", "center"}] and openings(search) == 0


def test_validation_scores_stand_beside_those_of_the_test_part(search: Finished):
    found = run(search, splits=["center"])
    table = found.splits[0].tables["scores"]
    assert table["validation"].notna().any() and np.isfinite(table.loc[table["metric"] == "accuracy", "validation"]).all()


def test_a_split_without_a_test_part_is_refused_with_a_cure():
    with pytest.raises(ResultError, match="--splits"):
        require_test_parts([Split(name="folders", parts={"train": ("a",), "val": ("b",), "test": ()})])
