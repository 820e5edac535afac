"""explain NAME: where a model looks. Grad-CAM overlays and, where lesions are annotated, how often the peak lies in one.

checkpoints/<name>/<split>/explain/     on the validation part; `evaluate` alone does the same on the test part
    sheet.png                           the most confident right and wrong images of every class
    pointing.json pointing.csv          the pointing game, in all and per image
"""
# ruff: noqa: N803
# (shape suffixes: N = images, C = classes, S = side in px)

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import safe_name
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import Predictor, network_input, open_checkpoint
from tune_btxrd.inference.overlays import Tile, draw_sheet, save_overlay
from tune_btxrd.results.checkpoints import chosen_splits
from tune_btxrd.scoring.annotations import Lesion, read_lesions
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.pointing import Pointed, PointingGame, play, point, pointing_table
from tune_btxrd.training.augment.images import IMAGES
from tune_btxrd.training.source import Source

SHOWN = 4  # most confident right images of a class in a sheet, and as many wrong ones
CAM_BATCH = 8  # images; gradients need more memory than answers
SMALLEST_MAP = 7  # a side, in cells: what the last layers of these backbones give at 224 px
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
        logits: (N, C); targets: (N,).
        annotations: LabelMe file per image or None; files: image files or None.
    """

    name: str
    images: np.ndarray
    image_ids: tuple[str, ...]
    logits: np.ndarray
    targets: np.ndarray
    annotations: tuple[Path | None, ...]
    files: tuple[Path | None, ...]


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
    """Explains the winner of every split on its validation part; no test part is read.

    Raises:
        ResultError: no checkpoint, an unknown split, a backbone without feature maps.
        DataError: the cache is gone.
    """
    cache, explained = ImageCache.open(Path(source.cache)), []
    for item in chosen_splits(checkpoints, splits):
        split = load_split(results / "splits" / f"{item.stem}.csv", manifest, name=item.name)
        predictor = open_checkpoint(item.winner, device=device)
        logits = predictor.logits(cache.images, cache.rows(split.parts["val"]))
        part = part_of("val", split.parts["val"], logits, cache=cache, manifest=manifest)
        title = f"{manifest.dataset}, validation part of {split.name}"
        explained.append(
            explain_part(predictor, part, item.folder / "explain", split=split.name, title=title, progress=progress)
        )
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
        annotations=tuple(manifest.annotations[row] for row in rows),
        files=tuple(manifest.files[row] for row in rows),
    )


def explain_part(
    predictor: Predictor, part: Part, folder: Path, *, split: str, title: str, progress: Progress | None = None
) -> Explained:
    """Writes sheet and pointing game of a part into `folder`. Heat in the sheet is for the predicted class, in the game
    for the true one.

    Raises: as `explain_search`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read = read_lesions(part.annotations, part.files, predictor.info.image_size)
    lesions = read.found
    game = _pointing_game(predictor, part, lesions, folder, progress=progress)
    rows = [
        (name, [_tile(predictor, part, lesions, index) for index in chosen])
        for name, chosen in _most_confident(part, predictor.info)
    ]
    sheet = folder / "sheet.png"
    draw_sheet(rows, sheet, title=f"{title}: most confident right (left) and wrong (right)", columns=2 * SHOWN)
    return Explained(split=split, part=part.name, sheet=sheet, pointing=game, notes=read.notes)


def explain_files(
    predictor: Predictor, files: Sequence[Path], folder: Path, *, progress: Progress | None = None
) -> list[Path]:
    """An overlay for the predicted class of each image file, beside the image, as `<file>_<class>.png` into `folder`;
    a second file of the same name gets a number.

    Raises:
        ResultError: an ONNX model, or a backbone without feature maps.
        DataError: an image is unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for done, file in enumerate(files, start=1):
        image = decode_image(file, predictor.info.image_size)
        predicted = predictor.info.task.decide(predictor.forward(image[None]))
        heat = grad_cam(predictor, image[None], predicted)[0]
        stem = safe_name(f"{file.stem}_{predictor.info.class_names[int(predicted[0])]}")
        names = (f"{stem}.png", *(f"{stem}-{number}.png" for number in range(2, len(files) + 2)))
        written.append(next(folder / name for name in names if folder / name not in written))
        save_overlay(image, heat, written[-1])
        if progress is not None:
            progress(done, len(files))
    return written


def grad_cam(
    predictor: Predictor, images: np.ndarray, classes_N: np.ndarray, *, progress: Progress | None = None
) -> np.ndarray:
    """(N, S, S) float32 heat in [0, 1] for the given class of each image: Grad-CAM (Selvaraju et al., ICCV 2017) in the
    form of HiResCAM (Draelos and Carin, 2020), which keeps at each place its own gradient and not the map's mean.

    Raises:
        ResultError: an ONNX model, or a backbone without feature maps.
    """
    model, size = network(predictor), predictor.info.image_size
    heat = [np.zeros((0, size, size), dtype=np.float32)]
    with HiResCAM(model=model, target_layers=[feature_layer(model, size)]) as cam:
        for start in range(0, len(images), CAM_BATCH):
            inputs = torch.from_numpy(network_input(images[start : start + CAM_BATCH], predictor.info))
            targets = [ClassifierOutputTarget(int(index)) for index in classes_N[start : start + CAM_BATCH]]
            heat.append(np.asarray(cam(input_tensor=inputs, targets=targets), dtype=np.float32))
            if progress is not None:
                progress(min(start + CAM_BATCH, len(images)), len(images))
    return np.concatenate(heat)


def network(predictor: Predictor) -> nn.Module:
    """The model that has gradients. Raises: ResultError for ONNX, which has none."""
    if predictor.model is None:
        raise ResultError("Grad-CAM needs gradients, which ONNX models do not have: explain the .pt or the timm folder.")
    return predictor.model


@lru_cache(maxsize=1)  # asked for image after image, and a forward pass each time
def feature_layer(model: nn.Module, image_size: int) -> nn.Module:
    """The layer whose maps are explained: the last one with maps of at least SMALLEST_MAP a side, else of more than one
    cell. A small image shrinks to 2 x 2 cells in the last layers, which point nowhere (docs/LOG.md).

    Raises:
        ResultError: no layer gives maps.
    """
    seen: list[tuple[int, nn.Module]] = []

    def remember(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append((min(output.shape[2:]), module))

    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    try:
        with torch.no_grad():
            model(IMAGES.blank(1, image_size, next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    for smallest in (SMALLEST_MAP, 2):
        if wide := [module for side, module in seen if side >= smallest]:
            return wide[-1]
    raise ResultError("Grad-CAM needs a backbone with feature maps, but this one gives none: choose another backbone.")


def _pointing_game(
    predictor: Predictor, part: Part, lesions: dict[int, Lesion], folder: Path, *, progress: Progress | None
) -> PointingGame | None:
    chosen = np.array(sorted(lesions), dtype=np.int64)
    heat = grad_cam(predictor, part.images[chosen], part.targets[chosen], progress=progress)
    pointed: list[Pointed] = [
        point(part.image_ids[index], own, lesions[index]) for index, own in zip(chosen.tolist(), heat, strict=True)
    ]
    game = play(pointed)
    if game is not None:
        write_whole(folder / "pointing.csv", to_csv(pointing_table(pointed)))
        write_whole(folder / "pointing.json", json.dumps(game.to_dict(), indent=1) + "\n")
    return game


def _most_confident(part: Part, info: ModelInfo) -> Iterator[tuple[str, list[int]]]:
    """Per true class: the SHOWN right images with the highest probability, then the SHOWN wrong ones likewise."""
    probabilities = info.task.probabilities(part.logits)
    predicted = info.task.decide(probabilities)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    for index, name in enumerate(info.class_names):
        own = order[part.targets[order] == index]
        right, wrong = own[predicted[own] == index], own[predicted[own] != index]
        yield name, [*right[:SHOWN].tolist(), *[-1] * max(0, SHOWN - len(right)), *wrong[:SHOWN].tolist()]


def _tile(predictor: Predictor, part: Part, lesions: dict[int, Lesion], index: int) -> Tile | None:
    if index < 0:
        return None
    image, task = part.images[index], predictor.info.task
    probabilities = task.probabilities(part.logits[index : index + 1])
    predicted, probabilities = int(task.decide(probabilities)[0]), probabilities[0]
    caption = (part.image_ids[index], f"{predictor.info.class_names[predicted]} {probabilities[predicted]:.2f}")
    heat = grad_cam(predictor, image[None], np.array([predicted]))[0]
    lesion = lesions.get(index)
    return Tile(image=image, heat=heat, caption=caption, lesion=lesion.mask if lesion else None)
