"""Who is in a part, and how well a model does on each subgroup: center, view, region, sex, age band, type."""
# (shape suffixes: N = images)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import REGION_COLUMNS, TYPE_COLUMNS, VIEW_COLUMNS
from tune_btxrd.scoring.intervals import Proportion
from tune_btxrd.scoring.score_tables import Judged, proportion_columns

SMALL = 10  # a share of fewer images than this is marked: its interval is wider than half of all there is
AGE_BANDS = ((0, 20), (20, 40), (40, 60), (60, 200))  # years, from and below
COLUMNS = ("model", "kind", "level", "images", "metric", "value")  # of the table, also where there is no subgroup
FLAGS = {"view": VIEW_COLUMNS, "region": REGION_COLUMNS, "type": TYPE_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """Some images of a part; those of one kind may overlap (an image can show two regions)."""

    kind: str
    level: str
    member_N: np.ndarray  # bool  # noqa: N815  (shape suffix)


def subgroups(manifest: Manifest, rows: np.ndarray) -> list[Subgroup]:
    """Every subgroup with an image among these (N,) rows of the dataset, for the columns that it has."""
    return [group for group in _all_subgroups(manifest, rows) if group.member_N.any()]


def subgroup_table(models: Sequence[Judged], groups: Sequence[Subgroup], class_names: Sequence[str]) -> pd.DataFrame:
    """Per model and subgroup: accuracy, and sensitivity and specificity of the positive class, as counts with intervals.

    Of independent labels: exact match, and sensitivity and specificity of each, named in a column `class`. `small` marks a
    share of fewer than SMALL images.
    """
    rows: list[dict[str, object]] = []
    for model in models:
        questions = list(_questions(model, class_names))
        for group in groups:
            for named, metric, found, whole in questions:
                among = whole & group.member_N
                count = Proportion(found=int((found & among).sum()), asked=int(among.sum()))
                row = {"model": model.name, "kind": group.kind, "level": group.level, "images": int(group.member_N.sum())}
                row |= named | {"metric": metric, "value": count.value} | proportion_columns(count)
                rows.append(row | {"small": count.asked < SMALL})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS))


Question = tuple[dict[str, str], str, np.ndarray, np.ndarray]  # label's name, metric, (N,) found, (N,) asked


def _questions(model: Judged, class_names: Sequence[str]) -> Iterator[Question]:
    answers, labels = model.answers, model.decisions.labels
    yield {"class": ""} if labels else {}, "exact_match" if labels else "accuracy", answers.right_N, answers.whole_N
    for index in model.decisions.asked:
        named = {"class": class_names[index]} if labels else {}
        known, yes, called = (item[:, index] for item in (answers.known_NC, answers.yes_NC, answers.called_NC))
        yield named, "sensitivity", called, yes & known
        yield named, "specificity", ~called, ~yes & known


def _all_subgroups(manifest: Manifest, rows: np.ndarray) -> Iterator[Subgroup]:
    table = manifest.table.iloc[rows]
    if manifest.centers is not None:
        centers = np.array(manifest.centers)[rows]
        yield from (Subgroup(kind="center", level=str(c), member_N=centers == c) for c in sorted(set(manifest.centers)))
    for kind, columns in FLAGS.items():
        for column in (column for column in columns if column in table):
            yield Subgroup(kind=kind, level=column, member_N=table[column].to_numpy() == 1)
    if "gender" in table:
        sexes = table["gender"].fillna("unknown").astype(str).to_numpy()
        yield from (Subgroup(kind="sex", level=str(sex), member_N=sexes == sex) for sex in sorted(set(sexes)))
    if "age" in table and pd.api.types.is_numeric_dtype(table["age"]):
        ages = table["age"].to_numpy(dtype=float)
        for low, high in AGE_BANDS:
            level = f"{low}-{high - 1}" if high < 200 else f"{low}+"
            yield Subgroup(kind="age", level=level, member_N=(ages >= low) & (ages < high))
        yield Subgroup(kind="age", level="unknown", member_N=np.isnan(ages))
