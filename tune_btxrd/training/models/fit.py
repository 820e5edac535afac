"""Whether a backbone, a head, a file of weights and a side of the images fit: built and run without any arithmetic."""

from collections.abc import Iterable

import timm
import torch
from torch import nn

from tune_btxrd.errors import ConfigError, first_line
from tune_btxrd.training.models.layers import parts_of
from tune_btxrd.training.models.names import ModelChoice, is_volume_backbone
from tune_btxrd.training.models.shell import MARK, create, dropout_places
from tune_btxrd.training.models.weights import pretrained_tensors, taken_tensors

DEFAULT_SIDE = 224
STEP = 32  # sides tried as a cure are multiples of it: the stride of most backbones


def check_fit(choices: Iterable[ModelChoice], *, num_classes: int) -> list[str]:
    """Builds each model and runs one sample of that side through it, on torch's meta device: shapes alone, no memory.

    Returns:
        What to say of files of weights that do not give a backbone all it has, or more.

    Raises:
        ConfigError: two of the settings do not fit; the side or head that the line names has been tried.
    """
    return [note for choice in choices for note in _check(choice, num_classes)]


def _check(choice: ModelChoice, num_classes: int) -> list[str]:
    if is_volume_backbone(choice.backbone):
        return _check_volumes(choice, num_classes)
    with torch.device("meta"):
        model = create(choice.backbone, num_classes, head=choice.head, drop_rate=MARK).eval()
    if choice.has_dropout and not dropout_places(model):
        raise ConfigError(
            f"`dropout` must be 0 with {choice.backbone}, which has none before its classifier: set it to 0, or choose "
            "another backbone."
        )
    if choice.is_staged:
        parts_of(model)
    if choice.weights is not None:
        pretrained_tensors(model, choice.backbone, choice.weights)
    if (reason := _misfit(model, choice.image_size)) is None:
        return []
    config = timm.models.get_pretrained_cfg(choice.backbone)
    own: int = config.input_size[-1] if config is not None else DEFAULT_SIDE
    is_fixed = config is not None and config.fixed_input_size
    sides = [own] if is_fixed else range(STEP, own + 1, STEP)
    fitting = next((side for side in sides if _misfit(model, side) is None), None)
    if fitting is None:
        raise ConfigError(
            f"{choice.backbone} must take images of {choice.image_size} px, but does not ({reason}): choose another."
        )
    smallest = "" if is_fixed else "at least "
    raise ConfigError(
        f"`backbone` and `image_size` must fit, but {choice.backbone} takes {smallest}{fitting} px and got "
        f"image_size={choice.image_size}: --image-size {fitting}, or another backbone."
    )


def _check_volumes(choice: ModelChoice, num_classes: int) -> list[str]:
    """A 3D ResNet takes every side that `image_size` allows; what its file of weights holds is said."""
    if choice.weights is None:
        return []
    model = create(choice.backbone, num_classes, head=choice.head, stem_stride=choice.stem_stride)
    return [taken_tensors(model, choice.backbone, choice.weights).words]


def _misfit(model: nn.Module, side: int) -> str | None:
    """Why one image of that side cannot pass through a model on the meta device; None where it can."""
    try:
        with torch.no_grad():
            model(torch.empty(1, 3, side, side, device="meta"))
    except Exception as error:  # each architecture has its own way to object
        return first_line(error)
    return None
