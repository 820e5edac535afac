"""Backbones of images: timm models with random weights, and how they want their pixels."""

import difflib

import timm
from torch import nn

from tune_btxrd.errors import ConfigError, first_line
from tune_btxrd.training.models.heads import HEADS


def create_images_model(backbone: str, num_classes: int, *, head: str = "linear", drop_rate: float = 0.0) -> nn.Module:
    """timm's model with random weights from torch's global generator and the head asked for, see `TrainConfig.head`.

    A linear head starts as torch initialises a linear layer: timm's EfficientNets draw theirs from +-1/sqrt(classes), so
    that with three classes and 1,280 features the first loss is 7 to 13 instead of 1.1, and a small dataset spends its
    epochs on unlearning it (docs/LOG.md). Plain timm can load a model with the linear head alone.

    Raises:
        ConfigError: timm knows no such backbone; the message has the nearest name.
    """
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), n=1)
        cure = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists them."
        raise ConfigError(f"`backbone` must be a timm model, but got {backbone!r}: {cure}")
    model = _built(backbone, num_classes, drop_rate)
    old = model.get_classifier()  # type: ignore[operator]  # every classifier of timm has it
    if head == "linear":
        if isinstance(old, nn.Linear):
            old.reset_parameters()
        return model
    if not isinstance(old, nn.Linear):
        raise ConfigError(f"`head: {head}` needs a backbone with a linear classifier, but {backbone} has none: use linear.")
    path: str = model.pretrained_cfg["classifier"]  # type: ignore[index, assignment]  # timm's plain data
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, HEADS[head](old.in_features, num_classes, drop_rate))
    return model


def _built(backbone: str, num_classes: int, drop_rate: float) -> nn.Module:
    """timm's model. Raises: ConfigError where an architecture needs more than its name, or classifies nothing."""
    try:
        model = timm.create_model(backbone, pretrained=False, num_classes=num_classes, in_chans=3, drop_rate=drop_rate)
    except (RuntimeError, TypeError, ValueError) as error:  # an unknown tag of weights, a size to be said, an encoder
        raise ConfigError(
            f"timm must be able to build {backbone}, but cannot ({first_line(error)}): choose another."
        ) from error
    if not hasattr(model, "get_classifier"):
        raise ConfigError(f"`backbone` must be a classifier, but timm's {backbone} is none: choose another.")
    assert isinstance(model, nn.Module)
    return model


def normalization(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The model's own mean and std, three numbers each, for pixels in [0, 1]."""
    config = timm.data.resolve_model_data_config(model)  # type: ignore[attr-defined, no-untyped-call]  # timm is untyped
    return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
