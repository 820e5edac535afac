"""The weight gradient of a depthwise convolution on a CPU: the library's time / ours, by filter, stride and image.

python -m benchmarks.depthwise                          (a minute, one thread)

Above 1 ours is faster; `training/kernels.py` has the rule where it is used. At 64 px EfficientNet-B0 meets 3 x 3 at 2 to 32
pixels and 5 x 5 at 2 to 16.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.outcome import circumstances, write
from tune_btxrd.training.memory import set_up_memory
from tune_btxrd.training.models.kernels import weight_gradient

BATCH, CHANNELS = 32, 480
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)


def ratio(kernel: int, stride: int, side: int, rounds: int) -> float:
    """Median of the library's time over ours, both in turn."""
    padding, layout = kernel // 2, torch.channels_last
    images = torch.randn(BATCH, CHANNELS, side, side).contiguous(memory_format=layout)
    weight = torch.randn(CHANNELS, 1, kernel, kernel).contiguous(memory_format=layout)
    steps = (stride, stride), (padding, padding)
    gradient = torch.randn_like(F.conv2d(images, weight, None, *steps, groups=CHANNELS))
    plain = None, *steps, (1, 1), False, (0, 0), CHANNELS, (False, True, False)

    def library() -> torch.Tensor:
        found: torch.Tensor = torch.ops.aten.convolution_backward(gradient, images, weight, *plain)[1]
        return found

    def ours() -> torch.Tensor:
        return weight_gradient(gradient, images, weight, *steps)

    torch.testing.assert_close(library(), ours(), rtol=1e-3, atol=1e-3)
    return statistics.median(seconds(library) / seconds(ours) for _ in range(rounds))


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_up_memory()
    found, rows = circumstances(), []
    for kernel in (3, 5, 7):
        for stride in (1, 2):
            ratios: dict[str, Any] = {
                f"side {side}": round(ratio(kernel, stride, side, options.rounds), 1) for side in SIDES
            }
            rows.append({"filter": kernel, "stride": stride, **ratios})
    write("depthwise", rows, found)


if __name__ == "__main__":
    main()
