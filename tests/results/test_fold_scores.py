"""Folds and nested folds in words, from their tables alone."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tune_btxrd.errors import ResultError
from tune_btxrd.results.fold_scores import fold_lines, fold_scores, nested_lines
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.folds import corrected_interval, fold_table


def write(path: Path, aucs: Mapping[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = {fold: {"macro_auc": auc, "accuracy": 0.5} for fold, auc in aucs.items()}
    table = fold_table(scores, dict.fromkeys(aucs, (20, 10)), note="made up", highest={})
    path.write_text(to_csv(table))


def test_what_folds_gave_and_nested_ones_beside_it(tmp_path: Path) -> None:
    assert list(fold_lines(tmp_path)) == []
    write(tmp_path / "folds.csv", {"1/3": 0.6, "2/3": 0.7, "3/3": 0.8})
    interval = corrected_interval([0.6, 0.7, 0.8], ratio=0.5, highest=1.0)
    assert list(fold_lines(tmp_path)) == [f"Folds: macro_auc 0.700 +- 0.100 (corrected 95 % interval: {interval})."]
    write(tmp_path / "nested" / "folds.csv", {"1/3": 0.5, "2/3": 0.6, "3/3": 0.7})
    (line,) = nested_lines(tmp_path)
    assert (
        "is scored on: macro_auc 0.600 +- 0.100" in line and "choosing on the images that are scored makes +0.100." in line
    )
    assert len(list(fold_lines(tmp_path))) == 2


def test_a_table_that_is_none_of_folds_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("fold,macro_auc\n1/2,0.5\n")
    with pytest.raises(ResultError, match=r"folds\.csv must be a table of folds"):
        fold_scores(tmp_path)
