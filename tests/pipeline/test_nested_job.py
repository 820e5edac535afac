"""Nested folds from the command line: stopped between two inner searches, gone on with, and scored on what none saw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.pipeline.test_folds_job import SMALL, SPACE, TWO
from tune_btxrd.cli.main import main
from tune_btxrd.errors import ConfigError
from tune_btxrd.evaluation.nested import UNSEEN
from tune_btxrd.pipeline import nested
from tune_btxrd.pipeline.nested import check_nested
from tune_btxrd.results.checkpoints import RetrainJob
from tune_btxrd.results.search_json import SearchFlags, SearchSettings

INNER = ("n-outer_1_of_2", "n-outer_2_of_2")


def test_nested_folds_need_folds() -> None:
    with pytest.raises(ConfigError, match="--folds K is missing"):
        check_nested(None, nested=True, resume=False)
    check_nested(None, nested=True, resume=True)  # the search that goes on says how many
    check_nested(None, nested=False, resume=False)


def test_a_time_budget_is_shared_by_all_searches() -> None:
    assert SearchFlags(time_budget=60.0, folds=5, nested=True).search_budget == 10.0
    assert SearchFlags(time_budget=60.0, folds=5).search_budget == 60.0
    assert SearchFlags(folds=5, nested=True).search_budget is None


@pytest.mark.slow
def test_a_search_inside_each_fold_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "--folds", "2", "--nested", "--name", "n", "--trials", "2", "--epochs", "1", "--confirm", "0"]
    train, trained = nested.run_final_job, list[str]()

    def stopped_at_the_second(jobs: Sequence[RetrainJob], *rest: Any, **named: Any) -> None:
        if trained:
            raise KeyboardInterrupt
        trained.append(jobs[0].label)
        train(jobs, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(nested, "run_final_job", stopped_at_the_second)
        assert main([*command, "--cache", "cache", *SMALL, *TWO, *SPACE]) == 130
    assert trained == ["outer_1_of_2, winner"]
    assert capsys.readouterr().out.count("Interrupted; everything reported is saved. Go on with: ") == 1
    roots = [tmp_path / "checkpoints" / name for name in ("n", *INNER)]
    trained_files = [path for root in roots for path in root.rglob("*.pt") if path.parent.name != "export"]
    before = {path: path.stat().st_mtime_ns for path in trained_files}
    trials = [pd.read_csv(tmp_path / "ray_results" / name / "trials.csv") for name in ("n", *INNER)]
    assert [len(table) for table in trials] == [2, 2, 2] and len(before) == 6  # best and final: two folds, one winner
    assert not (roots[0] / "nested" / "folds.csv").exists()
    assert main(["run", "--name", "n", "--resume", "--cache", "cache"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name, table in zip(("n", *INNER), trials, strict=True):
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "ray_results" / name / "trials.csv"), table)
    _check_parts(tmp_path)
    _check_scores(roots[0])
    assert main(["run", "--name", "n", "--resume", "--folds", "3", "--nested", "--cache", "cache"]) == 2


def _check_parts(root: Path) -> None:
    """No inner search saw its outer part or a group of it, and each image is in one outer part."""
    folder, outer = root / "ray_results", list[str]()
    for number, name in enumerate(INNER, start=1):
        settings = SearchSettings.load(folder / name)
        assert settings.searched == f"outer_{number}_of_2" and settings.splits == {settings.searched: settings.searched}
        table = pd.read_csv(folder / name / "splits" / f"{settings.searched}.csv")
        tested, seen = table[table["part"] == "test"], table[table["part"] != "test"]
        assert not set(tested["group"]) & set(seen["group"])
        fold = pd.read_csv(folder / "n" / "splits" / f"fold_{number}_of_2.csv")
        assert set(tested["image_id"]) == set(fold.loc[fold["part"] == "val", "image_id"])
        outer += tested["image_id"].tolist()
    assert len(outer) == len(set(outer)) == 90


def _check_scores(root: Path) -> None:
    table = pd.read_csv(root / "nested" / "folds.csv")
    assert table["fold"].tolist() == ["1/2", "2/2", "mean", "sd", "low", "high"]
    assert table["note"].str.startswith(UNSEEN).all() and "config chosen on these images" not in table["note"].to_string()
    assert pd.read_csv(root / "folds.csv")["note"].str.startswith("config chosen on these images").all()
    both = pd.read_csv(root / "nested" / "optimism.csv").set_index("score").loc["macro_auc"]
    assert both["nested"] == pytest.approx(table["macro_auc"][2])
    assert both["difference"] == pytest.approx(pd.read_csv(root / "folds.csv")["macro_auc"][2] - table["macro_auc"][2])
    assert pd.read_csv(root / "nested" / "winners.csv")["search"].tolist() == list(INNER)
    assert len(pd.read_csv(root / "nested" / "out_of_fold" / "predictions.csv")) == 90
    said = f"balanced_accuracy {table['balanced_accuracy'][2]:.3f} +- "
    page = root.parents[1] / "ray_results" / root.name / "report.html"
    for text in (page.read_text(), (root / "fold_2_of_2" / "export" / "MODEL_CARD.md").read_text()):
        assert "Nested, each config chosen without the images that it is scored on: macro_auc" in text and said in text
    for name in ("folds.png", "out_of_fold/roc.png", "outer_1_of_2/metrics.json", "outer_2_of_2/predictions.npy"):
        assert (root / "nested" / name).is_file()
