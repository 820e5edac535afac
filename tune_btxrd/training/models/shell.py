"""Model shells: a model on the device that outlives trainings; each training loads its own start into it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_btxrd.errors import ConfigError
from tune_btxrd.training.augment.kinds import serving
from tune_btxrd.training.augment.volumes import level_normalization
from tune_btxrd.training.device import seeded
from tune_btxrd.training.models.images import create_images_model, normalization
from tune_btxrd.training.models.kernels import use_fast_kernels
from tune_btxrd.training.models.names import is_volume_backbone

MARK = 0.123456789  # a drop rate that nothing else has: finds where timm puts drop_rate in this backbone


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

    def reset(self, tensors: Mapping[str, Tensor], *, dropout: float, checkpointing: bool = False) -> None:
        """Every trace of an earlier training goes: tensors, gradients, freezing, mode, drop rate.

        Raises:
            ConfigError: a drop rate for a backbone that has no dropout before its classifier, or activations that are to be
                computed again by a backbone of images.
        """
        if hasattr(self.model, "checkpointing"):
            setattr(self.model, "checkpointing", checkpointing)  # noqa: B010  # a Module's attributes are tensors to mypy
        elif checkpointing:
            raise ConfigError("`checkpointing: true` needs a backbone of volumes, but got one of images: leave it out.")
        if dropout and not self.dropout_places:
            raise ConfigError(f"This backbone has no dropout, so `dropout = 0` must hold, but got {dropout}.")
        load_tensors(self.model, tensors)
        for parameter in self.model.parameters():
            parameter.grad = None
            parameter.requires_grad_(True)
        for module, attribute, share in self.dropout_places:
            setattr(module, attribute, dropout * share)
        self.model.train()


def create(
    backbone: str,
    num_classes: int,
    *,
    head: str = "linear",
    drop_rate: float = 0.0,
    channels: int | None = None,
    stem_stride: int = 1,
) -> nn.Module:
    """The backbone with random weights from torch's global generator and the head asked for, see `TrainConfig.head`.

    Args:
        channels: of a volume; None for images, whose models take three.
        stem_stride: of volumes, see `TrainConfig.stem_stride`.

    Raises:
        ConfigError: nobody knows such a backbone; the message has the nearest name.
    """
    if not is_volume_backbone(backbone):
        return create_images_model(backbone, num_classes, head=head, drop_rate=drop_rate)
    from tune_btxrd.training.models.volumes import create_volumes_model  # MONAI takes seconds, and images need none

    return create_volumes_model(
        backbone, num_classes, head=head, drop_rate=drop_rate, channels=channels or 1, stem_stride=stem_stride
    )


def build_shell(
    backbone: str,
    num_classes: int,
    device: torch.device,
    *,
    head: str,
    channels: int | None = None,
    stem_stride: int = 1,
) -> Shell:
    """A shell for this backbone; the global generator does not move. Raises: ConfigError as `create`."""
    with seeded(0, device):
        model = create(backbone, num_classes, head=head, drop_rate=MARK, channels=channels, stem_stride=stem_stride)
    use_fast_kernels(model, device)
    kind = serving(backbone)
    mean, std = level_normalization(channels or 1) if is_volume_backbone(backbone) else normalization(model)
    places = dropout_places(model)
    model.to(device=device, memory_format=kind.memory_format(device))  # type: ignore[call-overload]  # known to torch, not its stubs
    return Shell(model=model, dropout_places=places, mean=mean, std=std)


def dropout_places(model: nn.Module) -> tuple[tuple[nn.Module, str, float], ...]:
    """See `Shell.dropout_places`, of a model that was made with `drop_rate=MARK`."""
    return tuple(
        (module, name, share)
        for module in model.modules()
        for name in ("drop_rate", "p")
        for share in (1.0, 0.5)
        if getattr(module, name, 0) == MARK * share
    )


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies every tensor into the model's own storage, which keeps its layout. All names must be there."""
    own = model.state_dict()
    assert own.keys() == tensors.keys()
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(tensors[name])
