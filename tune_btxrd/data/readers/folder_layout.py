"""Layout: what the folders between a dataset and its images mean. Recognised where it is plain, else a choice is asked for.

`class`, `part/class`, `class/part`, `center/class`, `class/group`, `class/images`: outermost folder first. A step is one of
four meanings or a folder's own name; `.` at the end takes only images that lie right there. What lies deeper is taken too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tune_btxrd.data.readers.file_rules import images_below
from tune_btxrd.data.readers.names import examples, same_spelling
from tune_btxrd.errors import ConfigError, DataError, shell_word

MEANINGS = ("part", "class", "center", "group")
HERE = "."
PART_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development"),
    "test": ("test", "testing", "tst", "tests"),
}
PART_OF_WORD = {word: part for part, words in PART_WORDS.items() for word in words}
FILLERS = ("dataset", "data", "subset", "set", "images", "image", "imgs", "img", "folder", "split", "samples", "part")
MASK_WORDS = frozenset(
    (
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "segmentation",
        "segmentations",
        "seg",
        "groundtruth",
        "gt",
    )
)
Folders = tuple[str, ...]  # names of the folders between the dataset and an image


@dataclass(frozen=True)
class Layout:
    """The steps of a layout, outermost first; `class` is one of them."""

    steps: Folders

    def __str__(self) -> str:
        return "/".join(self.steps)

    def meanings(self, folders: Folders) -> dict[str, str] | None:
        """Meaning -> folder's name (a part as train, val or test); None for images that the layout leaves out."""
        steps = self.steps[:-1] if self.steps[-1] == HERE else self.steps
        if len(folders) < len(steps) or (self.steps[-1] == HERE and len(folders) > len(steps)):
            return None
        found: dict[str, str] = {}
        for step, name in zip(steps, folders, strict=False):
            if step == "part":
                if (part := part_of(name)) is None:
                    return None
                found[step] = part
            elif step in MEANINGS:
                found[step] = name.strip()
            elif same_spelling(step).casefold() != same_spelling(name).casefold():
                return None
        return found


def is_class_folders(root: Path) -> bool:
    """Whether at least two folders in `root`, or in its train folder, hold images."""
    top = {path.relative_to(root).parts[0] for path in images_below(root) if path.parent != root}
    inner = [folder for folder in top if part_of(folder) == "train"] if len(top) == 1 else []
    return len(top) > 1 or any(len(class_folders(root / folder)) > 1 for folder in inner)


def class_folders(root: Path) -> list[str]:
    """Names of the folders in `root` with images in them."""
    return sorted({path.relative_to(root).parts[0] for path in images_below(root) if path.parent != root})


def parse_layout(text: str) -> Layout:
    """The layout of `--layout`. Raises: ConfigError."""
    steps = tuple(step.strip() for step in text.strip("/").split("/"))
    named = [step for step in steps if step in MEANINGS]
    if named.count("class") != 1 or len(set(named)) < len(named) or "" in steps or HERE in steps[:-1] or ".." in steps:
        raise ConfigError(
            f"--layout must name `class` once, and part, center or group at most once, but got {text!r}: "
            "write e.g. class, part/class or class/images."
        )
    return Layout(steps)


def part_of(name: str) -> str | None:
    """The part that a folder's name means: "Training", "train_data" and "trainset" are train; None for other names."""
    word = "".join(character for character in name.lower() if character.isalpha())
    while (shorter := _without_filler(word)) != word:
        word = shorter
    return PART_OF_WORD.get(word)


def _without_filler(word: str) -> str:
    for filler in FILLERS:
        if word != filler and word not in PART_OF_WORD:
            word = word.removesuffix(filler).removeprefix(filler) or word
    return word


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A layout, what to say of it, and the folders on top whose images have no label."""

    layout: Layout
    notes: tuple[str, ...]
    unlabelled: frozenset[str] = frozenset()


def decide_layout(root: Path, places: Sequence[Folders]) -> Decision:
    """The layout of a folder whose images lie at `places`.

    Raises:
        DataError: the names fit more than one layout; the ways to choose one are in the message.
    """
    tree = _Tree(places)
    top = tree.children(())
    _refuse_masks_on_top(root, top)
    parts = {name: part for name in top if (part := part_of(name))}
    others = [name for name in top if name not in parts]
    if parts and not others:
        decision = _in_parts(root, tree, parts)
    elif parts and any(tree.children((name,)) for name in parts):
        raise DataError(
            f"Folders must be parts or classes, but {root} has {examples(sorted(parts))} with folders in it beside "
            f"{examples(others)}: choose with --layout part/class or --layout class."
        )
    elif top and all(_only_parts(tree.children((name,))) and not tree.direct((name,)) for name in top):
        decision = _decision(Layout(("class", "part")), f"{examples(top)}")
    else:
        decision = _decision(Layout(("class",)), examples(top))
    _refuse_ambiguous_folders_below(root, tree, decision.layout)
    return decision


class _Tree:
    """Which folders hold images, anywhere below (`children`) or right there (`direct`)."""

    def __init__(self, places: Sequence[Folders]) -> None:
        self._direct = Counter(places)
        self._children: dict[Folders, set[str]] = {}
        for place in set(places):
            for depth, name in enumerate(place):
                self._children.setdefault(place[:depth], set()).add(name)

    def children(self, folder: Folders) -> list[str]:
        return sorted(self._children.get(folder, ()))

    def direct(self, folder: Folders) -> int:
        return self._direct[folder]

    def count(self, folder: Folders) -> int:
        return sum(count for place, count in self._direct.items() if place[: len(folder)] == folder)


def _only_parts(names: list[str]) -> bool:
    return len(names) > 1 and all(map(part_of, names))


def _decision(layout: Layout, shown: str, *notes: str) -> Decision:
    return Decision(layout=layout, notes=(f"Layout {layout}: {shown} (--layout says otherwise).", *notes))


def _in_parts(root: Path, tree: _Tree, parts: Mapping[str, str]) -> Decision:
    """All folders on top are called after parts."""
    known = {child for name, part in parts.items() if part == "train" for child in tree.children((name,))}
    labelled = {name: part for name, part in parts.items() if known & set(tree.children((name,)))}
    if "train" not in labelled.values():
        raise DataError(
            f"The part train must hold a folder per class, but {root} has {examples(sorted(parts))} without one: "
            "sort the images into class folders, or take these folders as the classes with --layout class."
        )
    if len(set(labelled.values())) < len(labelled):
        shown = examples([f"{name} = {part}" for name, part in labelled.items()], 6)
        raise DataError(f"A part must have one folder, but {root} has {shown}: merge those that are the same part.")
    notes = [
        f"{name}/ holds {tree.count((name,)):,} images and none of the classes' folders: without a label they are left out; "
        f"`predict CHECKPOINT {shell_word(str(root / name))}` answers them."
        for name in parts
        if name not in labelled
    ]
    if len(labelled) > 1 and "test" not in labelled.values():
        notes.append(
            "There is no test part: validation is the folders' own, and nothing is left that `evaluate` could open."
        )
    shown = ", ".join(f"{name} = {part}" for part in PART_WORDS for name in labelled if labelled[name] == part)
    decision = _decision(Layout(("part", "class")), shown, *notes)
    return replace(decision, unlabelled=frozenset(parts) - labelled.keys())


def _refuse_masks_on_top(root: Path, top: Sequence[str]) -> None:
    if masks := [name for name in top if name.lower().strip("_- ") in MASK_WORDS]:
        others = [name for name in top if name not in masks]
        if len(others) <= 1:
            raise DataError(
                f"{root} must hold a folder per class, but holds {examples([*others, *masks])}, which look like images and "
                "what was drawn on them: add a manifest.csv, or take them as classes with --layout class."
            )


def _refuse_ambiguous_folders_below(root: Path, tree: _Tree, layout: Layout) -> None:
    """Folders below the classes that are more than patients: the same ones in several classes, or masks."""
    depth = len(layout.steps)
    below: dict[str, set[str]] = {}
    direct = False
    for folder in _folders_at(tree, depth):
        name = folder[layout.steps.index("class")]
        below.setdefault(name, set()).update(tree.children(folder))
        direct = direct or bool(tree.direct(folder))
    times = Counter(child for children in below.values() for child in children)
    shared = sorted(child for child, count in times.items() if count > 1)
    masks = sorted(child for child in times if child.lower() in MASK_WORDS)
    kinds = len(shared) + bool(direct and shared)
    if kinds < 2 and not (masks and (direct or len(times) > 1)):
        return
    names = shared or sorted(times)
    choices = [f"{layout}/{name}" for name in names if name not in masks][:3] + ([f"{layout}/."] if direct else [])
    more = [f"{layout}/group (patients)", f"{layout} (all)"]
    if depth == 1 and not direct:
        more.append("part/class or center/class (the outer folders are no classes)")
    raise DataError(
        f"Folders below the classes must have one meaning, but {examples(sorted(below), 2)} in {root} hold "
        f"{examples(sorted({*names, *masks}), 4)}{' and images beside them' if direct else ''}: choose with --layout "
        f"{', '.join([*map(shell_word, choices), *more])}."
    )


def _folders_at(tree: _Tree, depth: int) -> list[Folders]:
    folders: list[Folders] = [()]
    for _ in range(depth):
        folders = [(*folder, name) for folder in folders for name in tree.children(folder)]
    return folders
