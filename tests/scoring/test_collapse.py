"""Cells, their intervals, and the warnings of a result that collapses, by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.hostile import EVERYTHING
from tune_btxrd.scoring.calibration import fit_calibration
from tune_btxrd.scoring.cells import difference_cell, score_cell
from tune_btxrd.scoring.collapse import collapse_warnings, headline
from tune_btxrd.scoring.csv_tables import plain_cell, read_csv, safe_cell, to_csv
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.intervals import NOT_ESTIMABLE, UNKNOWN, Proportion, bootstrap_interval
from tune_btxrd.scoring.operating_points import SENSITIVE, YOUDEN


def row(metric: str, value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    values = {"model": "winner", "metric": metric, "class": "", "value": value, "low": low, "high": high}
    return values | {"interval": "bootstrap", "found": math.nan, "asked": math.nan, "validation": math.nan} | more


def of(*rows: dict[str, Any]) -> list[str]:
    return collapse_warnings(pd.DataFrame(rows), ["M"])


@pytest.mark.parametrize(
    ("yes", "no", "warned"), [(1, 15, True), (1, 39, False), (2, 7, True), (2, 8, False), (57, 3, False)]
)
def test_a_perfect_area_on_a_handful_may_be_chance(yes: int, no: int, warned: bool):
    """One of C(yes + no, yes) orders is perfect: 16, 40, 36, 45, 34220; more than 40 are told from chance."""
    perfect = row("auc", 1.0, math.nan, math.nan, **{"class": "M", "interval": NOT_ESTIMABLE})
    found = row("sensitivity", 1.0, 0.6, 1.0, **{"class": "M", "found": yes, "asked": yes})
    spared = row("specificity", 1.0, 0.6, 1.0, **{"class": "M", "found": no, "asked": no})
    told = of(found, spared, perfect)
    assert told == ([told[0]] if warned else []) and all(f"on {yes} against {no} images" in line for line in told)


def test_warnings_by_hand():
    assert of(row("macro_auc", 0.8, 0.7, 0.9)) == []
    assert "may be chance" in of(row("macro_auc", 0.51, 0.45, 0.57))[0]
    assert "may be chance" in of(row("macro_auc", 0.6, 0.5, 0.7))[0]
    assert "worse than chance" in of(row("auc", 0.38, 0.30, 0.46, **{"class": "M"}))[0]
    assert of(row("auc", 0.38, 0.30, 0.46, **{"class": "other"})) == []
    for value in (0.5, 0.9):  # of a model that says the same of every image; of one judged on a few
        assert "may be chance: it has no" in of(row("macro_auc", value, math.nan, math.nan, interval=NOT_ESTIMABLE))[0]
    assert of(row("macro_auc", 1.0, math.nan, math.nan, interval=NOT_ESTIMABLE)) == []
    assert "lies below chance" in of(row("macro_auc", 0.39, math.nan, math.nan, interval=NOT_ESTIMABLE))[0]
    exact = Proportion(found=2, asked=44).clopper_pearson
    found = of(
        row("sensitivity", 2 / 44, exact.low, exact.high, **{"class": "M", "found": 2, "asked": 44, "validation": 0.55})
    )
    assert found[0] == "sensitivity M 0.045 (0.006-0.155, 2/44) lies below 0.5: the model misses more than it finds."
    assert "validation promised 0.550" in found[1]
    assert of(row("sensitivity", 0.6, 0.4, 0.8, **{"class": "M", "validation": 0.7})) == []


def test_a_class_of_which_none_is_found_is_said_whichever_it_is():
    few = Proportion(found=0, asked=2).clopper_pearson
    for name in ("M", "other"):
        (line,) = of(row("sensitivity", 0.0, few.low, few.high, **{"class": name, "found": 0, "asked": 2}))
        assert line == f"sensitivity {name} 0.000 (0.000-0.842, 0/2): the model finds none of them."
    assert of(row("sensitivity", math.nan, math.nan, math.nan, **{"class": "other", "found": 0, "asked": 0})) == []


def test_the_hand_made_config_is_not_warned_of():
    assert of(row("macro_auc", 0.8, 0.7, 0.9), row("macro_auc", 0.4, 0.3, 0.45, model="hand-made")) == []
    assert headline(pd.DataFrame([row("macro_auc", 0.8, 0.7, 0.9)]), "M") == "macro auc 0.800 (0.700-0.900)"


def test_cells_by_hand():
    two_of_four = Proportion(found=2, asked=4)
    exact = {"low": two_of_four.clopper_pearson.low, "high": two_of_four.clopper_pearson.high}
    assert score_cell(row("ppv", 0.5, **exact, found=2, asked=4)) == "0.500 (0.068-0.932, 2/4)"
    assert score_cell(row("auc", math.nan, 0, 0)) == "undefined"
    assert score_cell(row("auc", 1.0, math.nan, math.nan, interval=NOT_ESTIMABLE)) == "1.000 (not estimable)"
    assert difference_cell({"difference": 0.5, "low": math.nan, "high": math.nan, "interval": NOT_ESTIMABLE}) == (
        "+0.500 (not estimable)"
    )
    assert difference_cell({"difference": math.nan}) == "undefined"
    assert difference_cell({"difference": 0.1, "low": -0.2, "high": 0.3, "interval": "b"}) == "+0.100 (-0.200 to +0.300)"


def test_a_table_of_the_first_version_shows_the_interval_of_its_footnote():
    old = {"value": 0.5, "found": 2.0, "asked": 4.0, "bootstrap_low": 0.5, "bootstrap_high": 0.5}
    old |= {"clopper_pearson_low": 0.068, "clopper_pearson_high": 0.932}
    assert score_cell(old) == "0.500 (0.068-0.932, 2/4)"
    assert score_cell(old | {"found": math.nan}) == "0.500 (not estimable)"


def test_a_bootstrap_that_cannot_tell_says_so():
    assert bootstrap_interval(np.full(100, 0.5)) == UNKNOWN
    assert bootstrap_interval(np.r_[np.full(2, np.nan), np.linspace(0, 1, 98)]) == UNKNOWN
    assert bootstrap_interval(np.linspace(0, 1, 101)).low == pytest.approx(0.025)


def test_few_images_do_not_make_a_model_sure_to_23_digits():
    rng = np.random.default_rng(0)
    targets = np.arange(34) % 3
    logits = np.eye(3)[targets] * 4 + rng.normal(size=(34, 3)) * 0.1
    found = fit_calibration(logits, targets)
    assert found.temperature > 0.3 and found.probabilities(logits).min() > 1e-8


def test_few_images_and_points_that_coincide_are_said():
    logits = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]]))
    decisions = fit_decisions(logits, np.array([0, 0, 1, 1]), positive_class=1)
    notes = list(decisions.notes(("a", "b")))
    assert "fitted on 4 validation images only" in notes[0]
    assert f"{YOUDEN} and {SENSITIVE}" in notes[1] and "coincide" in notes[1]


@pytest.mark.parametrize(
    "name", [*EVERYTHING[:-1], "=1+1", "'=1+1", "''=1", "+ve", "-ve", "None", "nan", "@x", "'quoted", "-1"]
)
def test_names_in_tables_run_nothing_and_come_back_equal(tmp_path: Path, name: str):
    assert plain_cell(safe_cell(name)) == name
    table = pd.DataFrame({"class": [name, ""], "value": [0.5, math.nan], f"recall {name}": [1, 2]})
    text = to_csv(table)
    (tmp_path / "t.csv").write_bytes(text.encode())
    back = read_csv(tmp_path / "t.csv")
    assert list(back["class"]) == [name, ""] and back["value"].isna().tolist() == [False, True]
    if name[:1] in ("=", "@"):
        assert safe_cell(name) == f"'{name}"
