"""Tensors of a file under a model's own names: wrappers' prefixes, and torchvision's names for EfficientNet."""

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

Value = TypeVar("Value")

COUNTER = "num_batches_tracked"  # of a batch norm; old files lack it
_BLOCK = {  # torchvision's place in a block that expands -> timm's name
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
_FIRST_BLOCK = {  # of stage 1, which does not expand
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
_FEATURE = re.compile(r"^(.*?)features\.(\d+)\.(\d+)\.(.+)$")
_IN_BLOCK = re.compile(r"^block\.(\d+\.\w+)\.(.+)$")
_HEAD = re.compile(r"^(.*?)classifier\.1\.(weight|bias)$")


def under_own_names(tensors: Mapping[str, Value], own: Mapping[str, Tensor]) -> dict[str, Value]:
    """The entries that belong to a model of these names, under its names; all entries where none fits as a whole.

    A wrapper's prefix (`model.`, Lightning's `net.`, `module.`) is taken off; entries outside of it, such as a loss's
    weights, are left out. torchvision's names of an EfficientNet are translated.
    """
    for names in (list(tensors), _from_torchvision(list(tensors))):
        if len(set(names)) < len(tensors):
            continue
        renamed = dict(zip(names, tensors.values(), strict=True))
        found = [prefix for prefix in _prefixes(names, own) if _holds(renamed, prefix, own)]
        if len(found) == 1:
            return {name.removeprefix(found[0]): value for name, value in renamed.items() if name.startswith(found[0])}
    return dict(tensors)


def _prefixes(names: list[str], own: Mapping[str, Tensor]) -> list[str]:
    """What stands before the model's first name, in each place where the file has it."""
    anchor = next(iter(own))
    return sorted({name[: -len(anchor)] for name in names if name == anchor or name.endswith(f".{anchor}")})


def _holds(tensors: Mapping[str, object], prefix: str, own: Mapping[str, Tensor]) -> bool:
    return all(prefix + name in tensors for name in own if not name.endswith(COUNTER))


def _from_torchvision(names: list[str]) -> list[str]:
    """timm's names for torchvision's EfficientNet (`features.3.1.block.2.fc1.weight` -> `blocks.2.1.se...`)."""
    stages = [int(match[2]) for name in names if (match := _FEATURE.match(name))]
    return [_one_name(name, max(stages)) for name in names] if stages else names


def _one_name(name: str, last: int) -> str:
    if head := _HEAD.match(name):
        return f"{head[1]}classifier.{head[2]}"
    match = _FEATURE.match(name)
    if match is None:
        return name
    prefix, stage, place, rest = match[1], int(match[2]), match[3], match[4]
    if stage in (0, last):
        conv, norm = ("conv_stem", "bn1") if stage == 0 else ("conv_head", "bn2")
        return f"{prefix}{conv if place == '0' else norm}.{rest}"
    inner = _IN_BLOCK.match(rest)
    known = (_FIRST_BLOCK if stage == 1 else _BLOCK).get(inner[1]) if inner else None
    return f"{prefix}blocks.{stage - 1}.{place}.{known}.{inner[2]}" if inner and known else name
