"""One epoch as a row: the names of `epochs.csv`, of `training_log.csv` and of every row reported to Ray."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tune_btxrd.training.metrics import EpochMetrics

RECALL = "val_recall_"
LOG_COLUMNS = ("epoch", "train_loss", "val_loss", "val_acc")  # then one recall per class, then lr: the contract's order
MORE_COLUMNS = (
    "val_macro_f1",
    "val_macro_auc",
    "lr_backbone",
    "stage",
    "objective",
    "improved",
    "stop",
    "zero_recall_epochs",
    "images_per_second",
    "train_seconds",
    "val_seconds",
)


def named_row(metrics: EpochMetrics, class_names: Sequence[str]) -> dict[str, Any]:
    """The record with one `val_recall_<class>` per class, in the order of `training_log.csv`."""
    values = metrics.to_dict()
    recalls = dict(zip(recall_columns(class_names), metrics.val_recall, strict=True))
    return (
        {name: values[name] for name in LOG_COLUMNS}
        | recalls
        | {"lr": metrics.lr}
        | {name: values[name] for name in MORE_COLUMNS}
    )


def recall_columns(class_names: Sequence[str]) -> tuple[str, ...]:
    """`val_recall_normal`, ...: class names in lower case, other characters than letters and digits as `_`."""
    return tuple(recall_column(name) for name in class_names)


def recall_column(class_name: str) -> str:
    """The column of one class."""
    return RECALL + re.sub(r"\W+", "_", class_name.strip().lower())


def own_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """Our names of a result that Ray has filled with its own bookkeeping."""
    ours = {*LOG_COLUMNS, *MORE_COLUMNS, "lr", "slot"}
    return {name: value for name, value in result.items() if name in ours or name.startswith(RECALL)}
