"""Backbones of volumes: MONAI's 3D ResNets under the names of MONAI's tensors, so that plain MONAI loads what we train.

Sources: He et al., CVPR 2016; MedicalNet (Chen et al. 2019), whose published files have the shortcuts of SHORTCUTS.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tune_btxrd.training.models.heads import HEADS

PLANES = [64, 128, 256, 512]
Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Depth:
    """One depth of the ResNet. `shortcut` is "B" (a convolution) or "A" (zeros for further channels), as in MedicalNet."""

    block: str
    layers: tuple[int, int, int, int]
    shortcut: str


DEPTHS = {
    "resnet3d_10": Depth(block="basic", layers=(1, 1, 1, 1), shortcut="B"),
    "resnet3d_18": Depth(block="basic", layers=(2, 2, 2, 2), shortcut="A"),
    "resnet3d_34": Depth(block="basic", layers=(3, 4, 6, 3), shortcut="A"),
    "resnet3d_50": Depth(block="bottleneck", layers=(3, 4, 6, 3), shortcut="B"),
}


class PaddedShortcut(nn.Module):
    """Every `stride`-th place, and zeros for further channels: MONAI's shortcut "A" with its gradient, which MONAI drops."""

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, K, S, S, S) -> (B, planes, S', S', S')."""
        step = self.stride
        kept = volumes[:, :, ::step, ::step, ::step]
        return F.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.planes - kept.shape[1]))


class VolumeResNet(ResNet):
    """MONAI's ResNet with dropout before its classifier, timm's way to ask for it, and activations computed again.

    Attributes:
        drop_rate: of the dropout.
        checkpointing: whether the backward pass computes the activations of each block again.
        pretrained_cfg: what timm's models say of their classifier.
    """

    pretrained_cfg = {"classifier": "fc"}  # noqa: RUF012  # as timm's models have it

    def __init__(self, depth: Depth, num_classes: int, *, channels: int, stem_stride: int, drop_rate: float) -> None:
        super().__init__(
            depth.block,
            list(depth.layers),
            PLANES,
            spatial_dims=3,
            n_input_channels=channels,
            conv1_t_stride=stem_stride,
            shortcut_type=depth.shortcut,
            num_classes=num_classes,
            bias_downsample=False,
        )
        self.drop_rate, self.checkpointing = drop_rate, False
        for block in self._blocks():
            if isinstance(block.downsample, partial):
                given = block.downsample.keywords
                block.downsample = PaddedShortcut(given["planes"], given["stride"])

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, K, S, S, S) -> (B, C) logits."""
        volumes = self._run(self._stem, self.bn1, volumes)
        for block in self._blocks():
            volumes = self._run(block, block, volumes)
        features = self.avgpool(volumes).flatten(1)
        return cast(Tensor, self.get_classifier()(F.dropout(features, self.drop_rate, training=self.training)))

    def get_classifier(self) -> nn.Module:
        """What gives logits, named as in timm."""
        return cast(nn.Module, self.fc)

    def _blocks(self) -> Iterator[Any]:
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            yield from layer

    def _stem(self, volumes: Tensor) -> Tensor:
        return cast(Tensor, self.maxpool(self.act(self.bn1(self.conv1(volumes)))))

    def _run(self, part: Layer, holder: nn.Module, volumes: Tensor) -> Tensor:
        """A part of the network; `holder` holds its BatchNorms."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return part(volumes)
        contexts = lambda: (nullcontext(), _without_statistics(holder))  # noqa: E731
        return checkpoint(part, volumes, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _without_statistics(part: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm's running statistics stand still: the forward pass has counted this batch already."""
    norms = [module for module in part.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def create_volumes_model(
    backbone: str, num_classes: int, *, head: str, drop_rate: float, channels: int, stem_stride: int
) -> nn.Module:
    """A ResNet of that depth for volumes of so many channels, with random weights and the head asked for."""
    model = VolumeResNet(DEPTHS[backbone], num_classes, channels=channels, stem_stride=stem_stride, drop_rate=drop_rate)
    if head != "linear":
        assert isinstance(model.fc, nn.Linear)
        setattr(model, "fc", HEADS[head](model.fc.in_features, num_classes, drop_rate))  # noqa: B010  # MONAI types it Linear
    return model
