"""Columns: all derive from the epoch's record, in the contract's order; classes keep apart, whatever they are called."""

import dataclasses
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_btxrd.distributed.reproduce import is_compared
from tune_btxrd.monitor import MONITORS
from tune_btxrd.search.columns import class_columns, class_keys, column_of, named_row, own_columns, score_columns
from tune_btxrd.search.space.yaml_file import CLASS_METRICS, METRICS
from tune_btxrd.tasks.multiclass import MulticlassMetrics
from tune_btxrd.tasks.record import score
from tune_btxrd.tasks.registry import TASKS, score_fields

NAMES = ("Normal", "Benign", "Malignant")
CONTRACT = "epoch,train_loss,val_loss,val_acc,val_recall_normal,val_recall_benign,val_recall_malignant,lr"
LATER = (
    "val_macro_f1,val_macro_auc,val_calibrated_loss,val_worst_center,center_gap,val_criterion,lr_backbone,stage,objective,"
    "improved,stop,zero_recall_epochs,skipped_steps,fold_sd,images_per_second,train_seconds,val_seconds"
)


@dataclass(frozen=True, kw_only=True)
class WithKappa(MulticlassMetrics):
    """What a new metric costs: one field."""

    val_kappa: float = score("agreement beyond chance", lambda v: 0.25, better="higher", label="kappa")


def epoch(kind: type[MulticlassMetrics] = MulticlassMetrics, classes: int = 3) -> MulticlassMetrics:
    values = {item.name: 0.5 for item in dataclasses.fields(kind)} | {
        "val_recall": tuple(map(float, range(classes))),
        "val_center": (),
    }
    return kind(**values)


def test_the_contracts_order() -> None:
    assert ",".join(named_row(epoch(), NAMES)) == f"{CONTRACT},{LATER}"


def test_a_new_metric_is_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TASKS["multiclass"]), "record", WithKappa)
    row = named_row(epoch(WithKappa), NAMES)
    assert row["val_kappa"] == 0.5 and ",".join(row).startswith(CONTRACT)
    assert own_columns(row | {"pid": 1}) == row
    assert score_columns(NAMES)["val_kappa"] == "kappa" and "val_kappa" in score_fields()
    assert is_compared("val_kappa") and not is_compared("train_seconds") and not is_compared("time")


def test_what_a_constraint_may_name_derives_from_the_record() -> None:
    assert {"val_loss", "val_acc", "val_macro_f1", "val_macro_auc", "val_exact_match", "val_macro_ap"} <= set(METRICS)
    assert {"val_recall_", "val_auc_", "val_specificity_"} <= set(CLASS_METRICS) and "val_recall" not in METRICS


def test_every_monitor_is_a_score_with_its_direction_and_name() -> None:
    for monitor in MONITORS.values():
        known = column_of(monitor.column)
        assert known is not None and known.kind == "score"
        assert (known.better == "higher") == monitor.higher_is_better and known.label in monitor.label


def test_every_field_of_the_record_is_described() -> None:
    for name, item in MulticlassMetrics.columns().items():
        assert item.meaning, name
        assert (item.kind == "score") == bool((item.better and item.formula) or item.of_centers), name


def test_names_that_differ_in_punctuation_keep_apart() -> None:
    names = ("HER2+", "HER2-", "normal", "her2  1")
    assert class_columns("val_recall", names) == {
        "val_recall_her2__1": "HER2+",
        "val_recall_her2__2": "HER2-",
        "val_recall_normal": "normal",
        "val_recall_her2_1": "her2  1",
    }
    row = named_row(epoch(classes=4), names)
    assert [row[name] for name in class_columns("val_recall", names)] == [0.0, 1.0, 2.0, 3.0]
    assert score_columns(names)["val_recall_her2__2"] == "recall HER2-"


def test_plain_names_keep_their_columns() -> None:
    assert class_keys(NAMES) == ("normal", "benign", "malignant") and class_keys(("grade 1",)) == ("grade_1",)


@given(st.lists(st.text(alphabet="aA1 _+-é", min_size=1, max_size=5), min_size=1, max_size=12, unique=True))
def test_keys_are_one_to_one(names: list[str]) -> None:
    keys = class_keys(names)
    assert len(set(keys)) == len(names)
    assert all(key.replace("_", "a").isalnum() for key in keys)
