"""Findings: what the audit measured, as sentences with a meaning and a cure. Words only; nothing is measured here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_btxrd.data.audit.shortcuts import ACROSS, Label, Shortcut, Strength
from tune_btxrd.data.audit.siblings import Siblings
from tune_btxrd.data.readers.names import examples


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the audit's table.

    Attributes:
        finding: what it is, e.g. "shortcut: image size".
        where: images, places or splits concerned.
        strength: the measured number.
        meaning: why it matters.
        cure: what to do, or what is already done.
    """

    finding: str
    where: str
    strength: str
    meaning: str
    cure: str


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """Two images that are the same (`bits` = 0) or nearly so (`bits` of the perceptual hash differ)."""

    first: str
    second: str
    label_first: str
    label_second: str
    bits: int = 0

    @property
    def contradicts(self) -> bool:
        """Whether the two carry different labels."""
        return self.label_first != self.label_second

    def __str__(self) -> str:
        return f"{self.first} {self.label_first} / {self.second} {self.label_second}"


SHORTCUT_WORDS = {  # feature -> (what a model could do with it, what is done or can be done about it)
    "file extension": ("The format was converted for some images only.", "The model never sees file names."),
    "row order": ("The table is sorted by class, so numbers in names tell it.", "The model never sees names or order."),
    "center": (
        "Classes are mixed differently per center: the look of a center tells them.",
        "Compare scores within centers.",
    ),
    "site columns": ("Filled in with the diagnosis in mind.", "They never reach the model; never add them as inputs."),
    "region columns": (
        "Some regions were imaged mostly with one class.",
        "They never reach the model; look at regions apart.",
    ),
    "view columns": ("Some views were taken mostly with one class.", "They never reach the model; look at views apart."),
    "image size": (
        "Resizing leaves traces (sharpness, aspect) that a model reads.",
        "Score center by center; search with --split center.",
    ),
    "image mode": ("Files of one class were made in another way.", "Grey is stored once for all; score center by center."),
    "volume shape": ("Scans of one class were made or cut in another way.", "Compare scores within shapes."),
    "spacing": (
        "Scans of one class have other voxels: resizing leaves traces.",
        "Use --spacing 1.0; compare within spacings.",
    ),
    "axes and type": ("Files of one class were written by another program.", "Axes are turned alike, values are z-scored."),
    "foreground": ("The size or shape of the head (or of its crop) tells the class.", "Look at the saliency maps."),
    "border": ("Frames, margins and collimation differ by class.", "Look at the saliency maps; crop frames before use."),
}
SPACING = "spacing as stored"  # the finding that voxels of unlike size, or long ones, are taken as they are
CENTER_WORDS = (
    "A model can recognise the center and use its class mix.",
    "Score center by center; search with --split center.",
)
WITHOUT_CENTERS = "Compare scores within its values."  # where the dataset names no centers
PERSON_WORDS = (
    "Classes differ in age or gender: anatomy tells them.",
    "They never reach the model; look at age groups apart.",
)
DUPLICATES_WORDS = ("The same file twice: a copy in test is a copied answer.", "--groups duplicates keeps them in one part.")
CONTRADICTIONS_WORDS = (
    "The same file under two classes: one is wrong.",
    "Look at them; leave both out with --exclude FILE.",
)
NEAR_WORDS = ("Probably an edited copy of another image.", "Look at them; leave one of each out with --exclude FILE.")
SIBLINGS_WORDS = ("Scores of this part are too good.", "--groups patients keeps each probable patient in one part.")


def file_findings(missing: Sequence[str], unreadable: Mapping[str, str]) -> list[Finding]:
    """Images without a usable file."""
    rows = (
        ("missing files", list(missing), "Rows without an image."),
        ("unreadable files", [f"{i} {why}" for i, why in unreadable.items()], "Files that are no images."),
    )
    cure = "Copy them again, or leave them out with --exclude FILE."
    return [
        Finding(finding=name, where=examples(found, 10), strength=f"{len(found)} images", meaning=meaning, cure=cure)
        for name, found, meaning in rows
        if found
    ]


def pair_findings(duplicates: Sequence[ImagePair], near: Sequence[ImagePair]) -> list[Finding]:
    """Duplicates, contradicting labels among them, near-duplicates."""
    contradicting = [pair for pair in duplicates if pair.contradicts]
    rows = (
        ("duplicate files", duplicates, DUPLICATES_WORDS),
        ("contradicting labels", contradicting, CONTRADICTIONS_WORDS),
        ("near-duplicates", near, NEAR_WORDS),
    )
    return [
        Finding(finding=name, where=examples([*map(str, pairs)], 5), strength=f"{len(pairs)} pairs", meaning=why, cure=cure)
        for name, pairs, (why, cure) in rows
        if pairs
    ]


def sibling_findings(siblings: Sequence[Siblings]) -> list[Finding]:
    """Parts that share probable patients or files with train."""
    meaning, cure = SIBLINGS_WORDS
    return [
        Finding(
            finding="siblings in train",
            where=f"{found.part} of {found.split}",
            strength=f"{found.with_sibling} of {found.images} images ({found.share:.0%}), {found.same_file} the same file",
            meaning=meaning,
            cure=cure,
        )
        for found in siblings
        if found.with_sibling
    ]


def grid_findings(grids: Mapping[str, Mapping[str, int]], note: str) -> list[Finding]:
    """Shape, spacing, axes and type of volumes, where they are not all the same, and what to say of their spacing."""
    rows = [
        Finding(
            finding=f"different {name}",
            where=examples([f"{value}: {count}" for value, count in counts.items()], 5),
            strength=f"{len(counts)} values",
            meaning="Files come from several scanners or preparations.",
            cure="See its shortcut below; axes are turned alike, and --spacing MM resamples.",
        )
        for name, counts in grids.items()
        if len(counts) > 1
    ]
    if note:
        meaning, _, cure = note.partition(": ")
        rows.append(Finding(finding=SPACING, where="all", strength="", meaning=meaning, cure=cure))
    return rows


def decoding_findings(decoding: Mapping[str, Sequence[str]]) -> list[Finding]:
    """What decoding of volumes had to do or assume: resampled channels, headers without orientation, zeros for a channel."""
    return [
        Finding(
            finding="decoded otherwise",
            where=examples(list(ids), 10),
            strength=f"{len(ids)} volumes",
            meaning=note,
            cure="Nothing to do where that is right; else mend the files and prepare again.",
        )
        for note, ids in decoding.items()
    ]


def shortcut_findings(shortcuts: Sequence[Shortcut]) -> list[Finding]:
    """One line per feature and place, strongest feature first, weak ones included."""
    on_class = by_strength(shortcuts)
    others = [
        shortcut for shortcut in shortcuts if shortcut not in on_class
    ]  # too few groups of a class, enough of a center
    has_centers = any(s.place != ACROSS or s.label == "center" for shortcut in shortcuts for s in shortcut.strengths)
    return [
        _shortcut_finding(shortcut, s, has_centers=has_centers)
        for shortcut in [*on_class, *others]
        for s in shortcut.strengths
    ]


def by_strength(shortcuts: Sequence[Shortcut]) -> list[Shortcut]:
    """Those measured on the class somewhere: whatever tells it first, then by AUC."""

    def key(shortcut: Shortcut) -> tuple[bool, float]:
        best = strongest(shortcut)
        return best.verdict == "weak", -best.auc

    return sorted((s for s in shortcuts if any(found.label == "class" for found in s.strengths)), key=key)


def strongest(shortcut: Shortcut, label: Label = "class") -> Strength:
    """Where the feature tells the class (or center) most: a verdict above "weak" counts first, then the AUC."""
    asked = [strength for strength in shortcut.strengths if strength.label == label]
    return max(asked, key=lambda strength: (strength.verdict != "weak", strength.auc))


def _shortcut_finding(shortcut: Shortcut, strength: Strength, *, has_centers: bool) -> Finding:
    weak = strength.verdict == "weak"
    meaning, cure = CENTER_WORDS if strength.label == "center" else SHORTCUT_WORDS.get(shortcut.feature, PERSON_WORDS)
    told = [f"{value}." for value in shortcut.telling.get(strength.label, ())]
    if not has_centers and "center" in cure:
        cure = WITHOUT_CENTERS
    across = "all centers" if has_centers else "all"
    place = across if strength.place == ACROSS else f"center {strength.place}"
    best = f"center {strength.best}" if strength.label == "center" else strength.best
    return Finding(
        finding=f"shortcut to the {strength.label}: {shortcut.feature}",
        where=f"{place}, {strength.images:,} images",
        strength=f"{strength.verdict}: AUC {strength.auc:.2f} ± {strength.standard_error:.2f} for {best}",
        meaning="Tells next to nothing here." if weak else " ".join([meaning, *told]),
        cure="Nothing to do." if weak else cure,
    )
