"""Checkpoints as torch modules: ours, ones from elsewhere in the common style, and timm folders."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tune_btxrd.errors import ConfigError, ResultError, first_line
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.training.models.images import create
from tune_btxrd.training.models.weights import PREFIXES

BACKBONE_NAMES = ("backbone", "model_name", "architecture", "arch", "model", "name")
SIZE_NAMES = ("image_size", "img_size", "input_size", "size")
ASKED = ("model_state_dict", "config", "class_names", "normalization")


def read_checkpoint(path: Path, *, sha256: str) -> tuple[nn.Module, ModelInfo]:
    """The model of a checkpoint, on the CPU in eval mode, with what is known about it.

    From elsewhere: a dictionary with `model_state_dict` (names with or without a `model.` or `module.` prefix), `config`
    (flat, or with sections, holding the backbone's timm name and the image size), `class_names` and `normalization`.

    Raises:
        ResultError: damaged, alien, incomplete, or weights that do not fit the backbone.
    """
    values = _plain_values(path)
    if absent := [key for key in ASKED if key not in values]:
        raise ResultError(f"A checkpoint must hold {', '.join(ASKED)}, but {path} has no {absent[0]!r}: use another.")
    info = _info(values, path, sha256)
    try:
        model = create(info.backbone, len(info.class_names), head=info.head)
    except ConfigError as error:
        raise ResultError(f"A checkpoint must name a backbone of timm, but {path} names {info.backbone!r}.") from error
    _load(model, values["model_state_dict"], path, info.backbone)
    return model.eval(), info


def read_timm_folder(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a folder with config.json and weights, loaded by timm itself, and its config.json.

    Raises:
        ResultError: no such folder, or timm cannot load it.
    """
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
        model = timm.create_model(f"local-dir:{path}", pretrained=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = first_line(error)
        raise ResultError(f"{path} must be a timm folder (config.json, model.safetensors), but: {reason}.") from error
    assert isinstance(model, nn.Module)
    return model.eval(), values


def _plain_values(path: Path) -> dict[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # alien and truncated files raise anything, from EOFError to UnpicklingError
        reason = first_line(error)
        raise ResultError(
            f"A checkpoint must be complete and plain, but {path} cannot be read ({reason}): use another."
        ) from error
    if not isinstance(loaded, dict):
        raise ResultError(f"A checkpoint must be a dictionary, but {path} holds a {type(loaded).__name__}: use another.")
    return loaded


def _info(values: Mapping[str, Any], path: Path, sha256: str) -> ModelInfo:
    config, normalization = values["config"], values["normalization"]
    backbone = _find(config, BACKBONE_NAMES, str)
    image_size = _find(config, SIZE_NAMES, int | list | tuple)
    if backbone is None or image_size is None:
        what = "its backbone" if backbone is None else "its image size"
        raise ResultError(f"A checkpoint's `config` must name {what}, but in {path} it does not: add it there.")
    try:
        return ModelInfo(
            backbone=backbone.removeprefix("timm/"),
            head=_find(config, ("head",), str) or "linear",
            image_size=int(image_size if isinstance(image_size, int) else image_size[-1]),
            mean=tuple(map(float, normalization["mean"])),
            std=tuple(map(float, normalization["std"])),
            class_names=tuple(map(str, _names(values["class_names"]))),
            checkpoint_sha256=sha256,
        )
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ResultError(
            f"A checkpoint's class names and normalization must be plain lists, but in {path}: {error!r}."
        ) from error


def _names(values: Any) -> list[Any]:
    """Class names in index order; some write them as {index: name} or {name: index}."""
    if not isinstance(values, Mapping):
        return list(values)
    by_index = values if all(isinstance(key, int) for key in values) else {index: name for name, index in values.items()}
    return [by_index[index] for index in range(len(by_index))]


def _find(config: Any, names: tuple[str, ...], kind: Any) -> Any:
    """The first value of that kind under one of these names, at the top or in a section; None where there is none."""
    for section in _sections(config):
        for name in names:
            if isinstance(section.get(name), kind) and section[name]:
                return section[name]
    return None


def _sections(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        yield config
        for name in ("model", "data", *config):
            if isinstance(config.get(name), Mapping):
                yield config[name]


def _load(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, backbone: str) -> None:
    """Loads every tensor under the model's own names."""
    own = model.state_dict()
    found = {_bare(str(name), own): tensor for name, tensor in tensors.items()}
    odd = sorted(name for name in own.keys() ^ found.keys() if not name.endswith("num_batches_tracked"))
    odd += [name for name in own.keys() & found.keys() if own[name].shape != getattr(found[name], "shape", None)]
    if odd:
        raise ResultError(f"A checkpoint's weights must fit {backbone}, but in {path} {odd[0]!r} does not: use another.")
    model.load_state_dict(own | found)


def _bare(name: str, own: Mapping[str, Any]) -> str:
    while name not in own and name.startswith(PREFIXES):
        name = name.split(".", maxsplit=1)[1]
    return name
