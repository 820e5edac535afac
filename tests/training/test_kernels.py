"""Our kernels give torch's own numbers."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_btxrd.training.models.kernels import DepthwiseConv2d, use_fast_kernels, weight_gradient

CPU = torch.device("cpu")


def depthwise(kernel: int, stride: int, *, bias: bool = False) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's layer of 16 channels, and ours with the same weights."""
    torch.manual_seed(0)
    stock = nn.Conv2d(16, 16, kernel, stride, padding=kernel // 2, groups=16, bias=bias)
    stock = stock.to(memory_format=torch.channels_last)
    ours = copy.deepcopy(stock)
    use_fast_kernels(ours, CPU)
    return stock, ours


def gradients(layer: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """Output and gradients of images, weight and bias for a loss that weighs every output differently."""
    images = images.detach().requires_grad_()
    out = layer(images)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward((out * weights).sum())
    found = [out.detach(), images.grad, *(parameter.grad for parameter in layer.parameters())]
    return [tensor for tensor in found if tensor is not None]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (8, 8), (9, 9), (14, 14), (2, 9), (9, 2)])
def test_a_depthwise_layer_has_the_same_output_and_gradients(kernel: int, stride: int, size: tuple[int, int]) -> None:
    images = torch.randn(4, 16, *size).contiguous(memory_format=torch.channels_last)
    for bias in (False, True):
        stock, ours = depthwise(kernel, stride, bias=bias)
        assert isinstance(ours, DepthwiseConv2d)
        expected, found = gradients(stock, images), gradients(ours, images)
        assert len(expected) == len(found) == 3 + bias
        assert torch.equal(expected[0], found[0])
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_the_weight_gradient_is_that_of_float64() -> None:
    """Not only near the library's, whose order of sums is another one."""
    images, weight = torch.randn(4, 16, 4, 4, dtype=torch.float64), torch.randn(16, 1, 5, 5, dtype=torch.float64)
    weight.requires_grad_()
    out = F.conv2d(images, weight, padding=2, groups=16)
    out_gradient = torch.randn_like(out)
    torch.autograd.backward(out, out_gradient)
    assert weight.grad is not None
    single = out_gradient.float(), images.float(), weight.detach().float()
    torch.testing.assert_close(weight_gradient(*single, (1, 1), (2, 2)).double(), weight.grad, rtol=1e-5, atol=1e-5)


def test_a_model_keeps_tensors_names_and_outputs_and_its_gradients_agree() -> None:
    torch.manual_seed(0)
    stock = timm.create_model("efficientnet_b0", num_classes=3).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(stock)
    use_fast_kernels(ours, CPU)
    assert sum(isinstance(module, DepthwiseConv2d) for module in ours.modules()) == 16
    assert not any(module.inplace for module in ours.modules() if isinstance(module, nn.SiLU))
    images, targets = torch.randn(8, 3, 64, 64), torch.arange(8) % 3
    for model in (stock, ours):
        torch.manual_seed(1)
        torch.autograd.backward(F.cross_entropy(model(images), targets))
    for (name, one), (other_name, other) in zip(stock.named_parameters(), ours.named_parameters(), strict=True):
        assert name == other_name
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5 * float(one.grad.abs().max()) + 1e-7)
    assert stock.state_dict().keys() == ours.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(stock.eval()(images), ours.eval()(images))


def test_the_fused_optimizer_reads_our_gradients_in_the_layout_of_the_weights() -> None:
    """It walks raw memory: a gradient in another layout would go to other weights."""
    stock, ours = depthwise(5, 1)
    images = torch.randn(4, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    for layer in (stock, ours):
        gradients(layer, images)
        torch.optim.AdamW(layer.parameters(), lr=1e-2, fused=True).step()
    torch.testing.assert_close(ours.weight, stock.weight, rtol=1e-3, atol=1e-4)


def test_ours_is_used_where_it_pays_alone() -> None:
    """Large images, frozen weights, inference and other precisions go to torch's own convolution."""
    _, ours = depthwise(5, 1)
    small, large = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 32, 32)
    assert "_Convolution" in type(ours(small).grad_fn).__name__
    assert "_Convolution" not in type(ours(large).grad_fn).__name__
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(small).dtype == torch.bfloat16
    with torch.no_grad():
        assert ours(small).grad_fn is None
    ours.weight.requires_grad_(False)
    assert ours(small).grad_fn is None
    cuda = nn.Conv2d(16, 16, 5, padding=2, groups=16)
    use_fast_kernels(cuda, torch.device("cuda"))
    assert type(cuda) is nn.Conv2d
