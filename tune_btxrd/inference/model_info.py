"""ModelInfo: what a trained model needs beside its weights, as it travels with every export, and how it is read back.

An export may come from anybody: what stands in it is checked for its meaning, and its size is bounded, before it is used.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tune_btxrd.config import HEADS
from tune_btxrd.data.cache.dicom_picture import Window
from tune_btxrd.errors import ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.tasks.registry import DEFAULT, task_named
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.models.names import is_volume_backbone

INFO_FILE = "tune_btxrd.json"
MANIFEST_FILE = "manifest.json"  # of an export: SHA-256 of every file
SIDES = (8, 2048)  # px; smallest and largest image that a model may ask for
MOST_CLASSES = 1000
MOST_CHANNELS = 16
MOST_SPACING = 100.0  # mm
LONGEST_NAME = 300  # characters of a class or a backbone
MOST_JSON_BYTES = 4 * 2**20
INFO_KEY = "tune_btxrd"  # in config.json and in ONNX's metadata
WEIGHTS_KEY = "weights_sha256"  # beside the info, so that a form that is copied alone can be checked


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model needs beside its weights.

    Attributes:
        backbone: timm model name; head: one of config.HEADS, plain timm has "linear" alone.
        image_size: side of the square input, px.
        mean, std: three numbers each, for pixels in [0, 1]; of volumes one per channel.
        class_names: index -> name.
        checkpoint_sha256: of the `.pt` that the model comes from.
        decisions: fitted on validation; None for a checkpoint without them.
        channels: of volumes: their names in order; empty for images.
        spacing: of volumes: mm to which they are resampled; None: as they are.
        window: of DICOM images: center and width of the view; None: what each file says.
        stem_stride: of volumes: stride of the first convolution.
    """

    backbone: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    checkpoint_sha256: str
    decisions: Decisions | None = None
    head: str = "linear"
    task: Task = DEFAULT
    channels: tuple[str, ...] = ()
    spacing: float | None = None
    stem_stride: int = 1
    window: Window | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data, with the preprocessing in words."""
        return {
            "backbone": self.backbone,
            "head": self.head,
            "task": self.task.name,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            "checkpoint_sha256": self.checkpoint_sha256,
            "decisions": self.decisions.to_dict() if self.decisions else None,
            "preprocessing": self.preprocessing,
            **({} if self.window is None else {"window": list(self.window)}),
            **self._of_volumes(),
        }

    def _of_volumes(self) -> dict[str, object]:
        if not self.channels:
            return {}
        return {"channels": list(self.channels), "spacing": self.spacing, "stem_stride": self.stem_stride}

    @property
    def preprocessing(self) -> str:
        """From a file to the model's input, in words."""
        if self.channels:
            return self._preprocessing_of_volumes()
        view = "" if self.window is None else f"Of DICOM files, the window {self.window[0]:g}, {self.window[1]:g}. "
        return (
            f"{view}"
            f"Turn upright by EXIF; scale the longer side to {self.image_size} px (bicubic, aspect kept); centre on a black "
            f"{self.image_size} x {self.image_size} square; grey becomes three equal channels (RGB order); divide by 255; "
            f"subtract mean {list(self.mean)}, divide by std {list(self.std)}; float32 (batch, 3, height, width)."
        )

    def _preprocessing_of_volumes(self) -> str:
        at = "" if self.spacing is None else f"resample to {self.spacing:g} mm; "
        return (
            f"Channels {', '.join(self.channels)}, each: turn the axes to R, A, S; take 0, or the value of all corners, as "
            f"background; resample to the grid of the first channel where it has another; {at}crop to the foreground of all "
            "channels; z-score of the foreground, clipped to +-5; level 128 + 25.4 z there, 0 in the background; "
            f"scale the longest side to {self.image_size} voxels (linear, aspect kept); centre in a cube of zeros; round; "
            f"replace 0 by 128; divide by 255; subtract mean {[round(value, 6) for value in self.mean]}, divide by std "
            f"{[round(value, 6) for value in self.std]}; float32 (batch, {len(self.channels)}, right, front, up)."
        )

    @classmethod
    def from_dict(cls, values: object, *, source: object = INFO_FILE) -> "ModelInfo":
        """The inverse of `to_dict`, every value checked.

        Args:
            source: where the values stand, for the message.

        Raises:
            ResultError: a value is missing or means nothing.
        """
        try:
            if not isinstance(values, Mapping):
                raise TypeError("no object")
            decisions = values.get("decisions")
            info = cls(
                backbone=str(values["backbone"]),
                head=str(values.get("head", "linear")),
                task=task_named(str(values.get("task", DEFAULT.name))),
                image_size=int(values["image_size"]),
                mean=tuple(map(float, values["mean"])),
                std=tuple(map(float, values["std"])),
                class_names=tuple(map(str, values["class_names"])),
                checkpoint_sha256=str(values["checkpoint_sha256"]),
                decisions=Decisions.from_dict(decisions) if decisions else None,
                channels=tuple(map(str, values.get("channels", ()))),
                spacing=None if values.get("spacing") is None else float(values["spacing"]),
                stem_stride=int(values.get("stem_stride", 1)),
                window=as_window(values.get("window"), source),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "a value is of another kind"
            raise ResultError(f"{source} must describe a model of tune_btxrd, but {what}: export it again.") from error
        check_info(info, source)
        return info


def as_window(values: object, source: object) -> Window | None:
    """Center and width as a model carries them. Raises: ResultError."""
    if values is None:
        return None
    numbers = [value for value in values if isinstance(value, int | float)] if isinstance(values, list | tuple) else []
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or numbers[1] < 1:
        _refuse(source, f"a window must be a center and a width of at least 1, but got {str(values)[:40]}")
    return float(numbers[0]), float(numbers[1])


def check_info(info: ModelInfo, source: object) -> None:
    """Whether what is said of a model can be true.

    Raises:
        ResultError: naming `source` and the value that cannot.
    """
    low, high = SIDES
    names, given = info.class_names, (*info.mean, *info.std)
    if not low <= info.image_size <= high:
        _refuse(source, f"`{low} <= image_size <= {high}` must hold, but got {info.image_size}")
    fewest = 2 if info.task.exclusive else 1
    if not fewest <= len(names) <= MOST_CLASSES:
        _refuse(source, f"a model must have {fewest} to {MOST_CLASSES} classes, but got {len(names)}")
    if len(set(names)) < len(names) or not all(0 < len(name) <= LONGEST_NAME for name in (*names, info.backbone)):
        _refuse(source, f"class names must differ and have 1 to {LONGEST_NAME} characters, and so must the backbone's name")
    if info.head not in HEADS:
        _refuse(source, f"the head must be one of {', '.join(HEADS)}, but got {info.head[:40]!r}")
    if is_volume_backbone(info.backbone) != bool(info.channels):
        _refuse(source, f"a model of volumes, and no other, must name its channels, but {info.backbone} is the reverse")
    if len(info.channels) > MOST_CHANNELS or not all(0 < len(name) <= LONGEST_NAME for name in info.channels):
        _refuse(source, f"at most {MOST_CHANNELS} channels must have names of 1 to {LONGEST_NAME} characters")
    if info.stem_stride not in (1, 2) or (info.spacing is not None and not 0 < info.spacing <= MOST_SPACING):
        _refuse(source, f"stem_stride must be 1 or 2, and the spacing at most {MOST_SPACING:g} mm")
    channels = len(info.channels) or 3
    if len(info.mean) != channels or len(info.std) != channels or not all(map(math.isfinite, given)):
        words = "three" if channels == 3 else channels
        _refuse(source, f"mean and std must be {words} numbers each, one per channel")
    if not all(-1 <= mean <= 2 and 0 < std <= 2 for mean, std in zip(info.mean, info.std, strict=True)):
        _refuse(source, f"mean and std must be those of pixels in [0, 1], but got {list(info.mean)} and {list(info.std)}")
    if info.decisions is not None and not _is_usable(info.decisions, info.task, len(names)):
        _refuse(source, "calibration and operating points must be finite numbers that fit the classes")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ResultError: not to be read, larger than MOST_JSON_BYTES, no JSON, or no object.
    """
    try:
        size = path.stat().st_size
        found = json.loads(path.read_bytes()) if size <= MOST_JSON_BYTES else None
    except OSError as error:
        raise ResultError(f"{path} must be readable, but: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path} must be JSON, but it is damaged: take it from its source again.") from error
    if not isinstance(found, dict):
        raise ResultError(f"{path} must be a JSON object of at most {MOST_JSON_BYTES:,} bytes, but it is not: take another.")
    return found


def check_exported(path: Path) -> None:
    """Compares an exported file, or every file of an exported folder, with the SHA-256 in the `manifest.json` beside it.

    Raises:
        ResultError: a file is not the one that was exported. Without a manifest there is nothing to compare with.
    """
    manifest = path.parent / MANIFEST_FILE
    if not manifest.is_file():
        return
    known = read_object(manifest).get("files")
    if not isinstance(known, dict):
        return  # of another program
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in (file for file in files if file.is_file()):
        wanted = known.get(file.relative_to(path.parent).as_posix())
        if wanted is not None and file_sha256(file) != wanted:
            raise ResultError(f"{file} must be what was exported, but its SHA-256 is not that in {manifest}: export again.")


def _is_usable(decisions: Decisions, task: Task, classes: int) -> bool:
    calibration, labels = decisions.calibration, decisions.labels
    points = [*decisions.operating_points, *(point for label in labels for point in label.operating_points)]
    numbers: Sequence[float] = (*calibration.temperatures, *calibration.bias, *(point.threshold for point in points))
    fits = len(calibration.bias) == len(calibration.temperatures) == classes and 0 <= decisions.positive_class < classes
    fits &= calibration.task is task and len(labels) == (0 if task.exclusive else classes)
    return fits and all(map(math.isfinite, numbers)) and min(calibration.temperatures) > 0


def _refuse(source: object, what: str) -> NoReturn:
    raise ResultError(f"{source}: {what}: use another.")
