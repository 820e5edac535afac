"""The same model in less time: what timm's layers and torch's kernels leave undone in training.

**Activations in place.** SiLU in place keeps a copy of its input for the backward pass, which not in place it need not make.

**Depthwise convolutions on a CPU.** oneDNN computes the gradient of their weights quickly for filters of at most three
columns that fit the image. Everything else falls back to a general method that takes up to ten times as long: in
EfficientNet-B0 at 64 px a third of a training step, since its last images have 2 x 2 and 4 x 4 pixels and its filters 3 x 3
and 5 x 5. Here the image is padded beforehand, so that every filter fits it, and the filter cut into slabs of three
columns. Sums in another order, otherwise the same numbers. Source: what `ONEDNN_VERBOSE=dispatch` says with oneDNN 3.13
("kw > 3"); ratios by size in docs/LOG.md.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SLAB = 3  # columns of a filter that oneDNN's fast kernel takes
Pair = tuple[int, int]


def use_fast_kernels(model: nn.Module, device: torch.device) -> None:
    """Changes the model's layers in place; its tensors, their names and its outputs stay."""
    for module in model.modules():
        if isinstance(module, nn.SiLU | nn.Hardswish):
            module.inplace = False
        if device.type == "cpu" and type(module) is nn.Conv2d and _is_plain_depthwise(module):
            module.__class__ = DepthwiseConv2d


def _is_plain_depthwise(layer: nn.Conv2d) -> bool:
    plain = layer.dilation == (1, 1) and isinstance(layer.padding, tuple) and layer.padding_mode == "zeros"
    return plain and 1 < layer.groups == layer.in_channels == layer.out_channels


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution whose weight gradient is ours where that pays: on small images in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        sides = zip(images.shape[2:], self.kernel_size, strict=True)
        pays = any(side < kernel or (kernel > SLAB and side <= 2 * kernel) for side, kernel in sides)
        if pays and self.weight.requires_grad and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
            return cast(Tensor, _Convolution.apply(images, self.weight, self.bias, (self.stride, self.padding)))
        return super().forward(images)


class _Convolution(torch.autograd.Function):
    """torch's own convolution and gradients, but for the weight's."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, steps: tuple[Pair, Pair]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.steps, ctx.has_bias = steps, bias is not None
        return F.conv2d(images, weight, bias, *steps, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        of_images = _library(gradient, images, weight, ctx.steps, of="images") if ctx.needs_input_grad[0] else None
        of_bias = gradient.sum((0, 2, 3)) if ctx.has_bias else None
        return of_images, weight_gradient(gradient, images, weight, *ctx.steps), of_bias, None


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """(C, 1, K, K') gradient of the weight, from that of the output (B, C, H', W') and the input (B, C, H, W)."""
    (rows, columns), (high, wide) = weight.shape[2:], padding
    padded = F.pad(images, (wide, wide, high, high))
    tall = (gradient.shape[2] - 1) * stride[0] + rows
    slabs = []
    for first in range(0, columns, SLAB):
        slab = weight[..., first : first + SLAB]
        seen = (gradient.shape[3] - 1) * stride[1] + slab.shape[3]
        part = padded[:, :, :tall, first : first + seen]
        slabs.append(_library(gradient, part, slab, (stride, (0, 0)), of="weight"))
    return torch.cat(slabs, dim=3)


def _library(gradient: Tensor, images: Tensor, weight: Tensor, steps: tuple[Pair, Pair], *, of: str) -> Tensor:
    """torch's gradient of "images" or "weight"; `steps` are stride and padding."""
    plain = (1, 1), False, (0, 0), len(weight)  # dilation, transposed, output padding, groups
    wanted = [of == name for name in ("images", "weight", "bias")]
    found = torch.ops.aten.convolution_backward(gradient, images, weight, None, *steps, *plain, wanted)
    return cast(Tensor, found[wanted.index(True)])
