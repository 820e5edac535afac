"""Which part of a backbone a parameter belongs to: every one to exactly one of base, top and head."""

import re

import timm
from torch import nn

from tune_btxrd.errors import ConfigError
from tune_btxrd.training.models.weights import classifier_prefixes

BASE, TOP, HEAD = "base", "top", "head"
TRAINED = {"head": (HEAD,), "top": (TOP, HEAD), "all": (BASE, TOP, HEAD)}  # what `Stage.trains` says -> parts
TOP_SHARE = 0.3  # of the backbone's layers, from the end ...
TOP_PATTERNS = {"ResNet": r"layer[34]\.", "VolumeResNet": r"layer[34]\."}  # ... but by name for these classes


def parts_of(model: nn.Module) -> dict[str, str]:
    """Parameter name -> part, in the model's order.

    Head: the classifier. Top: the layers of TOP_PATTERNS, else the last TOP_SHARE of the layers as timm counts them
    (`group_matcher`). Base: all others.

    Raises:
        ConfigError: a backbone whose layers timm does not name.
    """
    names = [name for name, _ in model.named_parameters()]
    heads = {name for name in names if name.startswith(classifier_prefixes(model))}
    backbone = [name for name in names if name not in heads]
    top = _by_pattern(model, backbone) or _last_layers(model, backbone)
    parts = {name: HEAD if name in heads else TOP if name in top else BASE for name in names}
    if set(parts.values()) != {BASE, TOP, HEAD}:
        raise ConfigError(f"Stages need a backbone of several layers, but {type(model).__name__} has none: use stages: one.")
    return parts


def _by_pattern(model: nn.Module, names: list[str]) -> set[str]:
    pattern = TOP_PATTERNS.get(type(model).__name__)
    return {name for name in names if pattern and re.match(pattern, name)}


def _last_layers(model: nn.Module, names: list[str]) -> set[str]:
    if not hasattr(model, "group_matcher"):
        raise ConfigError(f"Stages need a backbone whose layers timm names, but {type(model).__name__} has none of them.")
    layer_of: dict[str, int] = timm.models.group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]  # a timm model's
    layers = sorted({layer_of[name] for name in names})
    kept = set(layers[-max(1, round(TOP_SHARE * len(layers))) :])
    return {name for name in names if layer_of[name] in kept}
