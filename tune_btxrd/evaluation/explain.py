"""explain NAME: where a model looks. Grad-CAM overlays and, where lesions are annotated, how often the peak lies in one.

checkpoints/<name>/<split>/explain/     on the validation part; `evaluate` alone does the same on the test part
    sheet.png                           the most confident right and wrong images of every class or label
    pointing.json pointing.csv          the pointing game, in all and per image
    maps/<id>.nii.gz                    of volumes: the heat on the voxels of the patient's first file
"""
# (shape suffixes: N = images, C = classes, S = side in px)

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.names import examples
from tune_btxrd.data.readers.registry import safe_name
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.files import write_whole
from tune_btxrd.inference.grad_cam import grad_cam
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import Predictor, open_checkpoint
from tune_btxrd.inference.overlays import Tile, draw_sheet
from tune_btxrd.inference.patients import Files
from tune_btxrd.inference.volume_maps import flat, lesion_in_cube, shown_voxel, three_planes, write_nifti
from tune_btxrd.results.checkpoints import WINNER, chosen_splits
from tune_btxrd.results.member_list import SOUP
from tune_btxrd.scoring.annotations import Lesion, Lesions, read_lesions
from tune_btxrd.scoring.answers import Answers
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import decide, fit_decisions
from tune_btxrd.scoring.pointing import Pointed, PointingGame, play, point, pointing_table
from tune_btxrd.training.source import Source

SHOWN, SHOWN_VOLUMES = 4, 2  # most confident right images of a class in a sheet, and as many wrong ones
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Where one split's winner looks.

    `pointing` is None where no image of the part is annotated; `notes` name the annotations that were left out.
    """

    split: str
    part: str
    sheet: Path
    pointing: PointingGame | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images of a part with what a model says of them.

    Attributes:
        images: (rows of a cache) uint8 (N, S, S) or (N, S, S, 3); image_ids: N ids.
        logits: (N, C); targets: N, in the form of the task.
        positive_class: index of the class or label to watch.
        annotations: LabelMe file per image or None; files: image files or None.
        volumes: of volumes: the files of each; masks: of volumes: the file of each one's lesion or None; empty without any.
    """

    name: str
    images: np.ndarray
    image_ids: tuple[str, ...]
    logits: np.ndarray
    targets: np.ndarray
    positive_class: int
    annotations: tuple[Path | None, ...]
    files: tuple[Path | None, ...]
    volumes: tuple[Files, ...] = ()
    masks: tuple[Path | None, ...] = ()

    @property
    def shown(self) -> int:
        """Right images, and wrong ones, in a row of the sheet; a volume is three planes wide."""
        return SHOWN_VOLUMES if self.volumes else SHOWN


def explain_search(
    checkpoints: Path,
    *,
    results: Path,
    manifest: Manifest,
    source: Source,
    splits: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Explained]:
    """Explains the winner of every split, and its soup, on its validation part; no test part is read.

    Raises:
        ResultError: no checkpoint, an unknown split, a backbone without feature maps.
        DataError: the cache is gone.
    """
    explained = []
    for item, name in ((item, name) for item in chosen_splits(checkpoints, splits) for name in (WINNER, SOUP)):
        if name not in item.models:
            continue
        split = load_split(results / "splits" / f"{item.stem}.csv", manifest, name=item.name)
        predictor = open_checkpoint(item.models[name], device=device)
        cache = source.images(predictor.info.image_size)
        logits = predictor.logits(cache.images, cache.rows(split.parts["val"]))
        part = part_of("val", split.parts["val"], logits, cache=cache, manifest=manifest)
        if not manifest.task.exclusive:  # what decides each label, as `evaluate` fits it
            decisions = fit_decisions(logits, part.targets, positive_class=part.positive_class, task=manifest.task)
            predictor = replace(predictor, info=replace(predictor.info, decisions=decisions))
        label = split.name if name == WINNER else f"{split.name}, {name}"
        title, folder = f"{manifest.dataset}, validation part of {label}", item.exports[name].with_name("explain")
        explained.append(explain_part(predictor, part, folder, split=label, title=title, progress=progress))
    return explained


def part_of(name: str, ids: Sequence[str], logits: np.ndarray, *, cache: ImageCache, manifest: Manifest) -> Part:
    """The images of these ids with a model's (N, C) logits of them."""
    rows = manifest.rows(ids)
    return Part(
        name=name,
        images=np.asarray(cache.images[cache.rows(ids)]),
        image_ids=tuple(ids),
        logits=logits,
        targets=manifest.targets[rows],
        positive_class=manifest.positive_class,
        annotations=tuple(manifest.annotations[row] for row in rows),
        files=tuple(manifest.files[row] for row in rows),
        volumes=tuple(manifest.volumes[row] for row in rows) if manifest.volumes else (),
        masks=tuple(manifest.masks[row] for row in rows) if manifest.masks else (),
    )


def explain_part(
    predictor: Predictor, part: Part, folder: Path, *, split: str, title: str, progress: Progress | None = None
) -> Explained:
    """Writes sheet and pointing game of a part into `folder`. Heat in the sheet is for the predicted class, in the game for
    the true one. Of independent labels a row of the sheet has the heat for its label, and the game is played with the label
    to watch, on images that have it.

    Raises: as `explain_search`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read = _lesions(part, predictor.info)
    lesions = read.found
    game = _pointing_game(predictor, part, lesions, folder, progress=progress)
    info, most_confident = predictor.info, _classes if predictor.info.task.exclusive else _labels
    rows = [
        (name, [_tile(predictor, part, lesions, place) for place in chosen]) for name, chosen in most_confident(part, info)
    ]
    sheet = folder / "sheet.png"
    draw_sheet(rows, sheet, title=f"{title}: most confident right (left) and wrong (right)", columns=2 * part.shown)
    if part.volumes:
        _write_maps(predictor, part, folder / "maps", progress=progress)
    return Explained(split=split, part=part.name, sheet=sheet, pointing=game, notes=read.notes)


def _lesions(part: Part, info: ModelInfo) -> Lesions:
    """The annotated lesions of a part, on the model's input."""
    if not part.volumes:
        return read_lesions(part.annotations, part.files, info.image_size)
    found, left_out = {}, dict[str, list[str]]()
    for index, (mask, files) in enumerate(zip(part.masks, part.volumes, strict=False)):
        if mask is None:
            continue
        try:
            marked = lesion_in_cube(mask, files, info.image_size, channels=info.channels, spacing=info.spacing)
        except UnreadableError as error:
            left_out.setdefault(error.reason, []).append(mask.name)
            continue
        if marked.any():
            found[index] = Lesion(mask=marked, picture=part.images[index].any(axis=-1) | marked)
        else:
            left_out.setdefault("it marks nothing", []).append(mask.name)
    notes = tuple(f"{len(names)} mask(s) left out, {examples(names)}: {reason}" for reason, names in left_out.items())
    return Lesions(found=found, notes=notes)


def _write_maps(predictor: Predictor, part: Part, folder: Path, *, progress: Progress | None) -> None:
    """`<id>.nii.gz` per volume: the heat for its predicted class (of labels: the one to watch), on its own voxels."""
    info = predictor.info
    folder.mkdir(exist_ok=True)
    asked = np.full(len(part.images), part.positive_class)
    if info.task.exclusive:
        asked = info.task.decide(info.task.probabilities(part.logits))
    for index, (image_id, files) in enumerate(zip(part.image_ids, part.volumes, strict=True)):
        heat = grad_cam(predictor, part.images[index : index + 1], asked[index : index + 1])[0]
        path = folder / f"{safe_name(image_id)}.nii.gz"
        write_nifti(heat, path, files, channels=info.channels, spacing=info.spacing)
        if progress is not None:
            progress(index + 1, len(part.images))


def _pointing_game(
    predictor: Predictor, part: Part, lesions: dict[int, Lesion], folder: Path, *, progress: Progress | None
) -> PointingGame | None:
    task, classes = predictor.info.task, len(predictor.info.class_names)
    has = task.indicators(part.targets, classes) > 0
    if task.exclusive:
        chosen = np.array(sorted(lesions), dtype=np.int64)
        asked = has[chosen].nonzero()[1]
    else:
        chosen = np.array([index for index in sorted(lesions) if has[index, part.positive_class]], dtype=np.int64)
        asked = np.full(len(chosen), part.positive_class)
    heat = grad_cam(predictor, part.images[chosen], asked, progress=progress)
    pointed: list[Pointed] = [
        point(part.image_ids[index], own, lesions[index]) for index, own in zip(chosen.tolist(), heat, strict=True)
    ]
    game = play(pointed)
    if game is not None:
        write_whole(folder / "pointing.csv", to_csv(pointing_table(pointed)))
        write_whole(folder / "pointing.json", json.dumps(game.to_dict(), indent=1) + "\n")
    return game


Place = tuple[int, int, str] | None  # image in the part, class whose heat is drawn, caption; None: empty


def _classes(part: Part, info: ModelInfo) -> Iterator[tuple[str, list[Place]]]:
    """Per true class: the right images with the highest probability, then the wrong ones likewise."""
    probabilities = info.task.probabilities(part.logits)
    predicted = info.task.decide(probabilities)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    has = info.task.indicators(part.targets, len(info.class_names)) > 0
    right = info.task.same(predicted, part.targets)

    def place(index: int) -> Place:
        said = int(predicted[index])
        return index, said, f"{info.class_names[said]} {probabilities[index, said]:.2f}"

    for index, name in enumerate(info.class_names):
        own = order[has[order, index]]
        yield name, _row([place(i) for i in own[right[own]]], [place(i) for i in own[~right[own]]], part.shown)


def _labels(part: Part, info: ModelInfo) -> Iterator[tuple[str, list[Place]]]:
    """Per label: the rightly found images with the highest probability, then the images of which the model is
    most surely wrong, missed or called in vain.
    """
    probabilities = (info.decisions.calibration if info.decisions else info.task).probabilities(part.logits)
    decided = decide(part.logits, task=info.task, decisions=info.decisions)
    answers = Answers.of(part.targets, decided, len(info.class_names), task=info.task)
    for index, name in enumerate(info.class_names):
        chance, truth = probabilities[:, index], answers.yes_NC[:, index]
        known, called = answers.known_NC[:, index], answers.called_NC[:, index]
        found = np.flatnonzero(known & truth & called)
        wrong = np.flatnonzero(known & (truth != called))

        def place(at: int, index: int = index, chance: np.ndarray = chance, truth: np.ndarray = truth) -> Place:
            return at, index, f"{chance[at]:.2f}, {'yes' if truth[at] else 'no'}"

        by_found = found[np.argsort(-chance[found], kind="stable")]
        by_wrong = wrong[np.argsort(np.where(truth[wrong], chance[wrong], 1 - chance[wrong]), kind="stable")]
        yield name, _row([place(i) for i in by_found], [place(i) for i in by_wrong], part.shown)


def _row(right: Sequence[Place], wrong: Sequence[Place], count: int) -> list[Place]:
    """The first `count` of both; empty places where there are fewer right ones, so that wrong ones stand in line."""
    return [*right[:count], *[None] * max(0, count - len(right)), *wrong[:count]]


def _tile(predictor: Predictor, part: Part, lesions: dict[int, Lesion], place: Place) -> Tile | None:
    if place is None:
        return None
    index, asked, said = place
    image = part.images[index]
    heat = grad_cam(predictor, image[None], np.array([asked]))[0]
    lesion, caption = lesions.get(index), (part.image_ids[index], said)
    mask = lesion.mask if lesion else None
    if part.volumes and mask is not None:
        mask = three_planes(mask, shown_voxel(image, heat))
    image, heat = flat(image, heat)
    return Tile(image=image, heat=heat, caption=caption, lesion=mask)
