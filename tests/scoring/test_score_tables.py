import numpy as np
import pandas as pd
import pytest

from tune_btxrd.evaluation.reference import reference_for
from tune_btxrd.scoring.calibration import Calibration
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.scoring.fitted_tables import calibration_table, operating_table
from tune_btxrd.scoring.intervals import draw_weights
from tune_btxrd.scoring.metrics import Metric
from tune_btxrd.scoring.operating_points import OperatingPoint
from tune_btxrd.scoring.score_tables import Judged, difference_table, judge, score_table
from tune_btxrd.scoring.subgroups import Subgroup, subgroup_table

NAMES = ("Normal", "Malignant")
DECISIONS = Decisions(
    positive_class=1,
    images=9,
    calibration=Calibration(temperature=1.0, bias=(0.0, 0.0)),
    operating_points=(OperatingPoint(name="Youden", threshold=0.3, val_sensitivity=0.9, val_specificity=0.8),),
)
TARGETS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
POSITIVE = np.array([0.1, 0.2, 0.2, 0.1, 0.4, 0.6, 0.2, 0.4, 0.7, 0.9])  # calls at 0.5: one wrong, two found


def judged(name: str, positive: np.ndarray, *, seed: int = 0) -> Judged:
    logits = np.log(np.stack([1 - positive, positive], axis=1))
    weights = draw_weights(np.arange(10), replicates=300, seed=seed)
    return judge(name, logits, TARGETS, weights, decisions=DECISIONS, sha256="ab")


def row(table: pd.DataFrame, **wanted: str) -> pd.Series:
    chosen = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_scores_carry_counts_and_exact_intervals():
    table = score_table([judged("winner", POSITIVE)], NAMES)
    sensitivity = row(table, metric="sensitivity", **{"class": "Malignant"})
    assert (sensitivity["value"], sensitivity["found"], sensitivity["asked"]) == (0.5, 2, 4)
    assert sensitivity["clopper_pearson_low"] == pytest.approx(0.0676, abs=1e-4)
    assert sensitivity["clopper_pearson_high"] == pytest.approx(0.9324, abs=1e-4)
    assert sensitivity["bootstrap_low"] <= 0.5 <= sensitivity["bootstrap_high"]
    ppv = row(table, metric="ppv", **{"class": "Malignant"})
    assert (ppv["found"], ppv["asked"]) == (2, 3)
    assert np.isnan(row(table, metric="macro_auc")["found"]), "no proportion"


def test_paired_difference_of_a_model_with_itself_is_exactly_zero():
    table = difference_table(judged("winner", POSITIVE), judged("hand-made", POSITIVE), NAMES)
    assert (table[["difference", "bootstrap_low", "bootstrap_high"]] == 0).all().all()


def test_paired_interval_is_narrower_than_an_unpaired_one():
    one, other = judged("winner", POSITIVE), judged("hand-made", POSITIVE * 0.9)
    apart = judged("hand-made", POSITIVE * 0.9, seed=1)
    metric = Metric("brier")
    paired = np.std(one.draws[metric] - other.draws[metric])
    assert paired < 0.5 * np.std(one.draws[metric] - apart.draws[metric])


def test_operating_point_applied_by_hand():
    """At 0.3: positives 0.4, 0.7, 0.9 found of 4; negatives 0.4, 0.6 called of 6."""
    table = operating_table([judged("winner", POSITIVE)], NAMES)
    assert [(r["metric"], r["found"], r["asked"]) for _, r in table.iterrows()] == [
        ("sensitivity", 3, 4),
        ("specificity", 4, 6),
        ("ppv", 3, 5),
        ("npv", 4, 5),
    ]
    assert (table["val_sensitivity"] == 0.9).all()


def test_identity_calibration_changes_nothing():
    before, after = (r for _, r in calibration_table([judged("winner", POSITIVE)], NAMES).iterrows())
    for name in ("log_loss", "brier", "calibration_error"):
        assert before[name] == pytest.approx(after[name])
    assert before["brier"] == pytest.approx(2 * np.mean((POSITIVE - TARGETS) ** 2))


def test_subgroups_are_counted_and_small_cells_marked():
    every = Subgroup(kind="sex", level="all", member_N=np.ones(10, dtype=bool))
    last = Subgroup(kind="sex", level="last five", member_N=np.arange(10) >= 5)
    table = subgroup_table([judged("winner", POSITIVE)], [every, last], NAMES)
    whole = row(table, level="all", metric="accuracy")
    assert (whole["found"], whole["asked"], whole["small"]) == (7, 10, False)
    part = row(table, level="last five", metric="specificity")
    assert (part["found"], part["asked"], part["small"]) == (0, 1, True)


def test_the_reference_belongs_to_its_own_test_part_alone():
    assert reference_for(["IMG000001.jpeg"]) is None
