"""Model shells: a timm model on the device that outlives trainings; each training loads its own start into it."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_btxrd.errors import ConfigError
from tune_btxrd.training.augment.images import memory_format
from tune_btxrd.training.device import seeded
from tune_btxrd.training.models.kernels import use_fast_kernels

HIDDEN = 512  # units of the mlp head
_MARK = 0.123456789  # a drop rate that nothing else has: finds where timm puts drop_rate in this backbone


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A model to load states into.

    Attributes:
        model: on the device, in the device's memory format.
        dropout_places: (module, attribute, share): where the drop rate, or a share of it, is kept.
        mean, std: the model's own input normalisation, one number per channel, for pixels in [0, 1].
    """

    model: nn.Module
    dropout_places: tuple[tuple[nn.Module, str, float], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def reset(self, tensors: Mapping[str, Tensor], *, dropout: float) -> None:
        """Every trace of an earlier training goes: tensors, gradients, freezing, mode, drop rate.

        Raises:
            ConfigError: a drop rate for a backbone that has no dropout before its classifier.
        """
        if dropout and not self.dropout_places:
            raise ConfigError(f"This backbone has no dropout, so `dropout = 0` must hold, but got {dropout}.")
        load_tensors(self.model, tensors)
        for parameter in self.model.parameters():
            parameter.grad = None
            parameter.requires_grad_(True)
        for module, attribute, share in self.dropout_places:
            setattr(module, attribute, dropout * share)
        self.model.train()


class CosineHead(nn.Module):
    """Logits are cosines of the angles between features and class vectors: within [-1, 1], no bias (Cao et al. 2019)."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(features, num_classes, bias=False).weight.detach())

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, C) cosines."""
        return F.linear(F.normalize(features), F.normalize(self.weight))


def create(backbone: str, num_classes: int, *, head: str = "linear", drop_rate: float = 0.0) -> nn.Module:
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
    model = timm.create_model(backbone, pretrained=False, num_classes=num_classes, in_chans=3, drop_rate=drop_rate)
    assert isinstance(model, nn.Module)
    old = model.get_classifier()  # type: ignore[operator]  # every timm model has it
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


def _mlp_head(features: int, num_classes: int, drop_rate: float) -> nn.Module:
    """The backbone's own dropout comes before it; the second one drops half as much."""
    layers = nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(drop_rate / 2), nn.Linear(HIDDEN, num_classes)
    return nn.Sequential(*layers)


HEADS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "mlp": _mlp_head,
    "cosine": lambda features, num_classes, drop_rate: CosineHead(features, num_classes),
}


def build_shell(backbone: str, num_classes: int, device: torch.device, *, head: str) -> Shell:
    """A shell for this backbone; the global generator does not move. Raises: ConfigError as `create`."""
    with seeded(0, device):
        model = create(backbone, num_classes, head=head, drop_rate=_MARK)
    use_fast_kernels(model, device)
    mean, std = normalization(model)
    places = [
        (module, name, share)
        for module in model.modules()
        for name in ("drop_rate", "p")
        for share in (1.0, 0.5)
        if getattr(module, name, 0) == _MARK * share
    ]
    model.to(device=device, memory_format=memory_format(device))  # type: ignore[call-overload]  # known to torch, not its stubs
    return Shell(model=model, dropout_places=tuple(places), mean=mean, std=std)


def normalization(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The model's own mean and std, three numbers each, for pixels in [0, 1]."""
    config = timm.data.resolve_model_data_config(model)  # type: ignore[attr-defined, no-untyped-call]  # timm is untyped
    return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies every tensor into the model's own storage, which keeps its layout. All names must be there."""
    own = model.state_dict()
    assert own.keys() == tensors.keys()
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(tensors[name])
