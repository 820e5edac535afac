"""Checkpoints as torch modules: ours, ones from elsewhere in the common style, and timm folders."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.model_info import INFO_KEY, WEIGHTS_KEY, ModelInfo, as_window, check_info, read_object
from tune_btxrd.tasks.registry import DEFAULT, task_named
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.augment.kinds import serving
from tune_btxrd.training.checkpoint import MOST_BYTES, read_plain
from tune_btxrd.training.models.key_names import COUNTER, under_own_names
from tune_btxrd.training.models.names import is_volume_backbone
from tune_btxrd.training.models.shell import create

Value = TypeVar("Value")

BACKBONE_NAMES = ("backbone", "model_name", "architecture", "arch", "model", "name")
SIZE_NAMES = ("image_size", "img_size", "input_size", "size")
ASKED = {  # what a checkpoint must hold, and the names under which others keep it
    "model_state_dict": ("model_state_dict", "state_dict"),
    "config": ("config", "hyper_parameters"),
    "class_names": ("class_names", "classes"),
    "normalization": ("normalization",),
}
PREPARED = ("channels", "spacing", "window")  # how samples are prepared beside their size
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"  # of a timm folder
PLAIN_ARGUMENTS = {"num_classes", "in_chans", "global_pool", "drop_rate"}  # what timm notes for any model


def read_checkpoint(path: Path, *, sha256: str) -> tuple[nn.Module, ModelInfo]:
    """The model of a checkpoint, on the CPU in eval mode, with what is known about it.

    From elsewhere: a dictionary with `model_state_dict` (names with or without a wrapper's prefix, or torchvision's),
    `config` (flat, or with sections, holding the backbone's timm name and the image size), `class_names` and
    `normalization`; Lightning's `state_dict` and `hyper_parameters` count as the first two.

    Raises:
        ResultError: damaged, alien, incomplete, or weights that do not fit the backbone.
    """
    values = read_plain(path)
    if not isinstance(values, dict):
        raise ResultError(f"A checkpoint must be a dictionary, but {path} holds a {type(values).__name__}: use another.")
    found = {key: values[name] for key, names in ASKED.items() for name in names[::-1] if name in values}
    if absent := [key for key in ASKED if key not in found]:
        raise ResultError(f"A checkpoint must hold {', '.join(ASKED)}, but {path} has no {absent[0]!r}: use another.")
    own = {name: values[name] for name in PREPARED if name in values}
    info = _info(found | own, path, sha256, task=task_named(str(values.get("task", DEFAULT.name))))
    return _model(info, found["model_state_dict"], path), info


def read_timm_folder(path: Path) -> tuple[nn.Module, ModelInfo]:
    """The model of an exported timm folder, and what is known about it.

    timm itself is not asked to load it: it falls back to pickles where the safetensors are missing, and a pickle from a
    stranger runs his code.

    Raises:
        ResultError: a file is missing or damaged, or the folder does not say how images are prepared.
    """
    config, weights = path / CONFIG_FILE, path / WEIGHTS_FILE
    if absent := [file.name for file in (config, weights) if not file.is_file()]:
        raise ResultError(
            f"A timm folder must hold {CONFIG_FILE} and {WEIGHTS_FILE}, but {path} has no {absent[0]}: "
            "give a .pt file, or the folder `export` of one split."
        )
    values = read_object(config)
    if INFO_KEY not in values:
        raise ResultError(f"A timm folder must carry its preprocessing, but {config} does not: export it with `export`.")
    info = ModelInfo.from_dict(values[INFO_KEY], source=config)
    changed = values.get("model_args") or {}
    if not isinstance(changed, dict) or set(changed) - PLAIN_ARGUMENTS:
        raise ResultError(f"A timm folder must be plain, but {config} changes the backbone by model_args: export another.")
    if (size := weights.stat().st_size) > MOST_BYTES:
        raise ResultError(f"Weights must be smaller than {MOST_BYTES:,} bytes, but {weights} has {size:,}: use another.")
    noted = values[INFO_KEY].get(WEIGHTS_KEY)  # 0.1.0 wrote none
    if noted is not None and noted != file_sha256(weights):
        raise ResultError(f"{weights} must be as it was exported, but its SHA-256 differs: take it from its source again.")
    _require_agreement(values, info, config)
    try:
        tensors = safetensors.torch.load_file(weights)
    except Exception as error:  # the library has kinds of its own for damaged files, and MemoryError for hostile ones
        raise ResultError(f"{weights} must be whole, but it is damaged: take it from its source again.") from error
    return _model(info, tensors, weights), info


def _require_agreement(values: Mapping[str, object], info: ModelInfo, config: Path) -> None:
    """Raises ResultError where timm's own part of config.json contradicts ours: one of the two was edited."""
    preprocessing = values.get("pretrained_cfg")
    preprocessing = preprocessing if isinstance(preprocessing, dict) else {}
    pairs: dict[str, tuple[object, object]] = {
        "architecture": (values.get("architecture"), info.backbone),
        "num_classes": (values.get("num_classes"), len(info.class_names)),
        "label_names": (values.get("label_names"), list(info.class_names)),
        "mean": (preprocessing.get("mean"), list(info.mean)),
        "std": (preprocessing.get("std"), list(info.std)),
    }
    for name, (timms, ours) in pairs.items():
        if timms is not None and timms != ours:
            raise ResultError(
                f"{config} must agree with itself, but its `{name}` is not that of its `{INFO_KEY}` block: export it again."
            )


def _info(values: Mapping[str, Any], path: Path, sha256: str, *, task: Task) -> ModelInfo:
    config = values["config"]
    backbone = _find(config, BACKBONE_NAMES, _text)
    sides = _find(config, SIZE_NAMES, _sides)
    if backbone is None or sides is None:
        what, names = ("its backbone", BACKBONE_NAMES) if backbone is None else ("its image size", SIZE_NAMES)
        given = _find(config, names, lambda value: None if isinstance(value, Mapping) else repr(value)[:60])
        found = "it does not" if given is None else f"{given} is none"
        raise ResultError(f"A checkpoint's `config` must name {what}, but in {path} {found}: write it there.")
    backbone = backbone.removeprefix("timm/")
    of_volumes = is_volume_backbone(backbone)
    mean, std = _normalization(values["normalization"], path, grey=of_volumes)
    info = ModelInfo(
        backbone=backbone,
        head=_find(config, ("head",), _text) or "linear",
        image_size=_side(sides, path),
        mean=mean,
        std=std,
        class_names=_names(values["class_names"], path),
        checkpoint_sha256=sha256,
        task=task,
        channels=_channels(values, len(mean), path) if of_volumes else (),
        spacing=_spacing(values.get("spacing"), path) if of_volumes else None,
        window=None if of_volumes else as_window(values.get("window"), path),
        stem_stride=(_find(config, ("stem_stride",), lambda value: value if isinstance(value, int) else None) or 1)
        if of_volumes
        else 1,
    )
    check_info(info, path)
    return info


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _sides(value: object) -> list[int] | None:
    """Height and width in px, as many write them: 64, 64.0, "64", "64x64", [S, S], [3, S, S], {"height": S, "width": S}."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        value = [part for part in re.split(r"[^\w.]+|[x*]", value) if part]
    parts: list[Any] = list(value)[-2:] if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, bool) for part in parts):
        return None
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):  # no number, or a tensor of several
        return None
    return [int(number) for number in numbers] if numbers and all(number.is_integer() for number in numbers) else None


def _side(sides: Sequence[int], path: Path) -> int:
    """The side of a square image."""
    if len(set(sides)) > 1:
        raise ResultError(f"A model's images must be square, but {path} says {list(sides)}: train it on squares.")
    return sides[0]


def _channels(values: Mapping[str, Any], count: int, path: Path) -> tuple[str, ...]:
    """The names of a model's channels; numbered where a checkpoint names none. Raises: ResultError."""
    names = values.get("channels") or [f"channel{number}" for number in range(1, count + 1)]
    if not isinstance(names, list | tuple) or len(names) != count:
        raise ResultError(f"A checkpoint must name each of its {count} channels, but {path} does not: use another.")
    return tuple(map(str, names))


def _spacing(given: object, path: Path) -> float | None:
    if given is not None and not isinstance(given, int | float):
        raise ResultError(f"A checkpoint's spacing must be a number, but in {path} it is {str(given)[:40]}: use another.")
    return None if given is None else float(given)


def _normalization(given: object, path: Path, *, grey: bool = False) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std, three numbers each, for pixels in [0, 1]; one number counts for all channels unless `grey`, and
    numbers beyond 2 are those of pixels in 0..255.

    Raises:
        ResultError: no such numbers, or mean and std of two scales.
    """
    try:
        assert isinstance(given, Mapping)
        both = [tuple(map(float, _listed(given[key]))) for key in ("mean", "std")]
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        raise ResultError(
            f"A checkpoint's normalization must be plain lists of numbers (mean, std), but in {path} it is not: add them."
        ) from error
    mean, std = (numbers * 3 if len(numbers) == 1 and not grey else numbers for numbers in both)
    means_bytes, stds_bytes = max(mean, default=0) > 2, max(std, default=0) > 2
    if (means_bytes and min(std, default=1) < 1) or (stds_bytes and any(0 < abs(value) < 1 for value in mean)):
        raise ResultError(
            f"mean and std must be of one scale, of [0, 1] or 0..255, but {path} has {list(mean)} and {list(std)}: "
            "write both for [0, 1]."
        )
    if means_bytes or stds_bytes:
        mean, std = tuple(value / 255 for value in mean), tuple(value / 255 for value in std)
    return mean, std


def _listed(value: Any) -> Sequence[Any]:
    """Numbers as a list, where they are one or written as one: 0.5, "0.5", "[0.485, 0.456, 0.406]"."""
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,;()\[\]]+", value) if part]
    return [value] if isinstance(value, int | float) else value


def _names(values: object, path: Path) -> tuple[str, ...]:
    """Class names in index order; some write them as {index: name}, {"index": name} or {name: index}.

    Raises:
        ResultError: no order can be read from it.
    """
    if isinstance(values, list | tuple):
        return tuple(map(str, values))
    pairs = list(values.items()) if isinstance(values, Mapping) else []
    for by_index in (dict(pairs), {index: name for name, index in pairs if isinstance(index, int | str)}):
        numbered = {int(index): str(name) for index, name in by_index.items() if str(index).isdecimal()}
        if pairs and sorted(numbered) == list(range(len(pairs))):
            return tuple(numbered[index] for index in range(len(pairs)))
    raise ResultError(
        f"A checkpoint's class names must be plain lists, or numbered from 0 without a gap, but in {path} they are not."
    )


def _find(config: object, names: tuple[str, ...], read: Callable[[Any], Value | None]) -> Value | None:
    """The first value under one of these names, at the top or in a section, as it is read; None where none can be."""
    for section in _sections(config):
        for name in names:
            if section.get(name) is not None and (found := read(section[name])) is not None:
                return found
    return None


def _sections(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        yield config
        for name in ("model", "data", *config):
            if isinstance(config.get(name), Mapping):
                yield config[name]


def _model(info: ModelInfo, tensors: object, path: Path) -> nn.Module:
    """The backbone with every tensor of the file in it, and an answer to a blank image.

    The shapes are compared before the model takes any memory: a few bytes can name a backbone of many gigabytes.

    Raises:
        ResultError: no such backbone, tensors that do not fit it or are not finite, images that it cannot take.
    """
    if not isinstance(tensors, Mapping):
        raise ResultError(f"A checkpoint's weights must be named tensors, but in {path} they are not: use another.")
    try:
        with torch.device("meta"):
            own = _created(info).state_dict()
    except ConfigError as error:
        raise ResultError(
            f"A checkpoint must name a backbone of timm, but {path} names {info.backbone[:60]!r} with a {info.head} head."
        ) from error
    found = under_own_names({str(name): value for name, value in tensors.items()}, own)
    fitting = _fitting(found, own, path=path, backbone=info.backbone)
    model = _created(info)
    model.load_state_dict(model.state_dict() | fitting)
    try:
        with torch.inference_mode():
            model.eval()(blank_input(info))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ResultError(
            f"A model must take its own images, but {info.backbone} takes none of {info.image_size} px, as {path} says: "
            "use another."
        ) from error
    return model


def _created(info: ModelInfo) -> nn.Module:
    """The model that the info describes, with random weights. Raises: ConfigError."""
    return create(
        info.backbone,
        len(info.class_names),
        head=info.head,
        channels=len(info.channels) or None,
        stem_stride=info.stem_stride,
    )


def blank_input(info: ModelInfo, count: int = 1) -> Tensor:
    """Inputs of zeros on the CPU, in the memory format that the model takes."""
    kind, device = serving(info.backbone), torch.device("cpu")
    return kind.blank(count, info.image_size, device, channels=len(info.channels) or None)


def _is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of plain numbers: no sparse, quantized or complex one."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_quantized or value.is_complex())


def _fitting(found: Mapping[str, object], own: Mapping[str, Tensor], *, path: Path, backbone: str) -> dict[str, Tensor]:
    """The tensors, checked one by one against the model's. Raises: ResultError."""
    must = f"A checkpoint's weights must fit {backbone}, but in {path}"
    if absent := [name for name in own if name not in found and not name.endswith(COUNTER)]:
        raise ResultError(f"{must} {absent[0]!r} is missing: name the backbone that it is of.")
    if extra := [name for name in found if name not in own]:
        raise ResultError(f"{must} there is also {extra[0][:80]!r}: name the backbone that it is of.")
    fitting = {}
    for name, value in found.items():
        if not _is_plain(value) or value.shape != own[name].shape:
            shape = tuple(value.shape) if _is_plain(value) else "no plain tensor"
            raise ResultError(f"{must} {name!r} is {shape} instead of {tuple(own[name].shape)}: name its backbone.")
        fitting[name] = value
    if sum(value.numel() * value.element_size() for value in fitting.values()) > 2 * path.stat().st_size:
        raise ResultError(f"{must} they are larger than the file: repeated values are no trained weights.")
    for name, value in fitting.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ResultError(f"A checkpoint's weights must be finite, but in {path} {name!r} is not: use another.")
    return fitting
