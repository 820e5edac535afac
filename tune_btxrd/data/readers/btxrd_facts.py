"""Facts of BTXRD, checked on the folder at hand (Yao et al., Sci Data 12:88, 2025, and the released table)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import LABEL_COLUMNS, RELEASED_COLUMNS

ROWS = 3746
CLASS_COUNTS = (1879, 1525, 342)  # Normal, Benign, Malignant
CENTER_CLASS_COUNTS = {"1": (1593, 1110, 235), "2": (259, 214, 76), "3": (27, 201, 31)}
IMAGE_IDS = tuple(f"IMG{n:06d}.{'jpg' if n >= 3720 else 'jpeg'}" for n in range(1, ROWS + 1))  # the last 27 are .jpg
ANNOTATIONS = 1867  # one per tumour


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fact that does not hold."""

    name: str
    found: str
    expected: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name}: found {self.found}, expected {self.expected} ({self.cure})"


def is_complete(manifest: Manifest) -> bool:
    """Whether the table has as many rows as BTXRD; any other number is a subset, whose counts are its own."""
    return len(manifest) == ROWS


def check_facts(manifest: Manifest) -> list[Finding]:
    """Every known fact of BTXRD that does not hold; empty where all do.

    `tumor == benign or malignant` and "never both" are asked of every table in BTXRD layout; counts, columns and ids of
    the complete one only (3,746 rows).
    """
    findings = [*_label_findings(manifest)]
    if is_complete(manifest):
        findings += [*_count_findings(manifest), *_column_findings(manifest), *_id_findings(manifest)]
    return findings


def _label_findings(manifest: Manifest) -> Iterator[Finding]:
    if any(name not in manifest.table for name in LABEL_COLUMNS):
        return
    tumor, benign, malignant = (manifest.table[name].to_numpy() == 1 for name in LABEL_COLUMNS)
    rules = {
        "rows both benign and malignant": benign & malignant,
        "rows where tumor is not (benign or malignant)": tumor != (benign | malignant),
    }
    for name, wrong in rules.items():
        if wrong.any():
            first = manifest.image_ids[int(np.argmax(wrong))]
            cure = f"e.g. {first}; download the table again, or mend these rows"
            yield Finding(name=name, found=str(int(wrong.sum())), expected="0", cure=cure)


def _count_findings(manifest: Manifest) -> Iterator[Finding]:
    cure = "the labels are not the released ones: download the table again"
    for name, count, known in zip(manifest.class_names, manifest.class_counts, CLASS_COUNTS, strict=True):
        if count != known:
            yield Finding(name=f"{name} images", found=f"{count:,}", expected=f"{known:,}", cure=cure)
    if manifest.centers is None:
        cure = "the column center is missing or blank: without it there is no center split"
        yield Finding(name="centers", found="none", expected="1, 2, 3", cure=cure)
        return
    centers = np.array(manifest.centers)
    for center in sorted({*manifest.centers, *CENTER_CLASS_COUNTS}):
        counts = tuple(manifest.task.counts(manifest.targets[centers == center], len(manifest.class_names)).tolist())
        expected_counts = CENTER_CLASS_COUNTS.get(center, (0, 0, 0))
        if counts != expected_counts:
            found, expected = ("/".join(map(str, values)) for values in (counts, expected_counts))
            cure = "centers or labels were changed: download the table again"
            yield Finding(
                name=f"{'/'.join(manifest.class_names)} of center {center}", found=found, expected=expected, cure=cure
            )


def _column_findings(manifest: Manifest) -> Iterator[Finding]:
    missing = [name for name in RELEASED_COLUMNS if name not in manifest.table]
    extra = [name or "(no name)" for name in manifest.table.columns if name not in (*RELEASED_COLUMNS, "original name")]
    if missing:
        cure = f"missing: {', '.join(missing)}; another revision, download the released table"
        yield Finding(name="columns", found=str(37 - len(missing)), expected="37", cure=cure)
    if extra:
        cure = f"unknown: {', '.join(extra[:5])}; another revision, download the released table"
        yield Finding(name="columns beyond the 37", found=str(len(extra)), expected="0", cure=cure)


def _id_findings(manifest: Manifest) -> Iterator[Finding]:
    found = [image_id for image_id in manifest.image_ids if image_id.endswith(".jpg")]
    expected = [image_id for image_id in IMAGE_IDS if image_id.endswith(".jpg")]
    if sorted(found) != expected:
        cure = "IMG003720-3746 and no others; files were renamed or converted: unzip them again"
        yield Finding(name=".jpg ids", found=str(len(found)), expected=f"{len(expected)}", cure=cure)
    if renamed := [i for i, file in zip(manifest.image_ids, manifest.files, strict=True) if file and file.name != i]:
        cure = f"e.g. {renamed[0]}; files were renamed or converted: unzip them again"
        yield Finding(name="files named otherwise than their id", found=str(len(renamed)), expected="0", cure=cure)
    if unknown := sorted(set(manifest.image_ids) - set(IMAGE_IDS) - set(found)):
        cure = f"e.g. {unknown[0]}; the ids are IMG000001-{ROWS:06d}: download the table again"
        yield Finding(name="ids that BTXRD does not have", found=str(len(unknown)), expected="0", cure=cure)
