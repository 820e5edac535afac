"""Lines for the terminal: the audit in about a dozen of them."""

from collections.abc import Mapping, Sequence

from tune_btxrd.data.audit.findings import ImagePair, by_strength, strongest
from tune_btxrd.data.audit.shortcuts import ACROSS, Label, Shortcut
from tune_btxrd.data.audit.siblings import Siblings
from tune_btxrd.data.readers.names import examples

SEEN_BY_MODEL = (
    "image size",
    "image mode",
    "border",
    "volume shape",
    "spacing",
    "foreground",
)  # they leave traces in the decoded pixels
CENTERS_SHOWN = 5


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts in words: `1,879 Normal, 1,525 Benign`."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def grid_lines(grids: Mapping[str, Mapping[str, int]]) -> list[str]:
    """For the terminal: what the headers of volumes say, the most frequent values first."""
    return [
        f"{name}: {examples([f'{value} ({count})' for value, count in counts.items()], 4)}" for name, counts in grids.items()
    ]


def center_lines(class_by_center: Mapping[str, Mapping[str, int]]) -> list[str]:
    """For the terminal: the classes of each center, the largest centers first where there are many."""
    by_size = sorted(class_by_center.items(), key=lambda item: -sum(item[1].values()))
    shown = by_size[:CENTERS_SHOWN] if len(by_size) > CENTERS_SHOWN else class_by_center.items()
    lines = [f"  center {center}: {counts_line(counts)}" for center, counts in shown]
    if rest := len(by_size) - len(lines):
        lines.append(f"  and {rest} smaller centers")
    return lines


def file_lines(missing: Sequence[str], unreadable: Mapping[str, str], not_measured: Mapping[str, str]) -> list[str]:
    """For the terminal: how many images have no usable file."""
    known = "missing and unreadable files" not in not_measured
    return [f"files: {len(missing)} missing, {len(unreadable)} unreadable"] if known else []


def pair_lines(pairs: Mapping[str, Sequence[ImagePair]], not_measured: Mapping[str, str]) -> list[str]:
    """For the terminal: duplicates and near-duplicates, those with contradicting labels by name."""
    lines = []
    for name, found in pairs.items():
        wrong = [str(pair) for pair in found if pair.contradicts]
        if name not in not_measured:
            lines.append(
                f"{name}: {len(found)} pairs" + (f", {len(wrong)} with different labels: {examples(wrong, 2)}" * bool(wrong))
            )
    return lines


def patient_lines(patients: Mapping[int, int], siblings: Sequence[Siblings]) -> list[str]:
    """For the terminal: probable patients, and one line per split with the siblings in train."""
    lines = []
    if patients:
        several = sum(count for size, count in patients.items() if size > 1)
        lines.append(
            f"probable patients: {sum(patients.values()):,}, "
            f"{several:,} of them with several images (at most {max(patients)})"
        )
    for split in dict.fromkeys(found.split for found in siblings):
        parts = [f"{s.with_sibling} of {s.images} {s.part} images" for s in siblings if s.split == split]
        lines.append(f"  split {split}: a probable sibling in train for {' and '.join(parts)}")
    return lines


def shortcut_lines(shortcuts: Sequence[Shortcut]) -> list[str]:
    """For the terminal: a line per feature that tells the class somewhere, one for the others, one for the center."""
    measured = by_strength(shortcuts)
    told = [shortcut for shortcut in measured if strongest(shortcut).verdict != "weak"]
    lines = [f"shortcuts (AUC of each feature alone, 0.5 is chance): {len(told)} of {len(measured)} tell the class"]
    lines += [f"  {shortcut.feature}: {_places(shortcut)}{_told(shortcut, 'class')}" for shortcut in told]
    if weak := [f"{s.feature} {strongest(s).auc:.2f}" for s in measured if s not in told]:
        lines.append(f"  weak: {', '.join(weak)}")
    asked = [shortcut for shortcut in shortcuts if any(s.label == "center" for s in shortcut.strengths)]
    seen = [s for s in asked if s.feature in SEEN_BY_MODEL and strongest(s, "center").verdict != "weak"]
    lines += [f"  {s.feature} tells the center: {strongest(s, 'center').auc:.2f}{_told(s, 'center')}" for s in seen]
    return lines


def not_measured_lines(not_measured: Mapping[str, str]) -> list[str]:
    """For the terminal: what could not be measured, by reason."""
    reasons = dict.fromkeys(not_measured.values())
    return [f"not measurable, {why}: {', '.join(w for w, r in not_measured.items() if r == why)}" for why in reasons]


def _told(shortcut: Shortcut, label: Label) -> str:
    return "".join(f"; {value}" for value in shortcut.telling.get(label, ())[:1])


def _places(shortcut: Shortcut) -> str:
    """Strength in words: `0.50 for Benign; within centers 0.50-1.00 (Normal in 3)`."""
    asked = [strength for strength in shortcut.strengths if strength.label == "class"]
    words = [f"{s.auc:.2f} for {s.best}" for s in asked if s.place == ACROSS]
    if within := [strength for strength in asked if strength.place != ACROSS]:
        best = max(within, key=lambda strength: strength.auc)
        lowest = min(strength.auc for strength in within)
        words.append(f"within centers {lowest:.2f}-{best.auc:.2f} ({best.best} in {best.place})")
    return "; ".join(words)
