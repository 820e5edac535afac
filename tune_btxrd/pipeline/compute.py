"""Compute: how much a search may use, and the layout that is measured within it."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, tell
from tune_btxrd.distributed.connect import Cluster
from tune_btxrd.distributed.measure import measure_layout
from tune_btxrd.distributed.shipment import Shipment
from tune_btxrd.errors import ConfigError
from tune_btxrd.results.search_json import Layout
from tune_btxrd.training.source import Source

DEVICES = ("auto", "cuda", "mps", "cpu")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How much a search may use; None where nothing was said.

    Attributes:
        device: one of DEVICES; default: auto, or as the search began.
        slots: trials at once; cpus, gpus: of each, also a fraction; default: measured.
        address: running Ray cluster, "auto" or HOST:PORT; default: Ray on this machine.

    Raises:
        ConfigError: a value that is no amount.
    """

    device: str | None = None
    slots: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in DEVICES:
            raise ConfigError(f"`device is one of {', '.join(DEVICES)}` must hold, but got {self.device!r}.")
        if self.slots is not None and self.slots < 1:
            raise ConfigError(f"`slots >= 1` must hold, but got --slots {self.slots}.")
        if self.cpus is not None and not 0 < self.cpus < math.inf:
            raise ConfigError(f"`cpus-per-trial > 0` must hold, but got --cpus-per-trial {self.cpus}.")
        if self.gpus is not None and not 0 <= self.gpus < math.inf:
            raise ConfigError(f"`gpus-per-trial >= 0` must hold, but got --gpus-per-trial {self.gpus}.")
        if self.gpus and self.device in ("cpu", "mps"):
            raise ConfigError(f"--gpus-per-trial shares out CUDA's GPUs, but --device is {self.device}: leave one out.")

    def allows(self, layout: Layout) -> bool:
        """Whether a layout that was measured before is what is wanted now."""
        said = {"slots": self.slots, "cpus": self.cpus, "gpus": self.gpus, "ran_on": self.device}
        known = dataclasses.asdict(layout)
        return all(value in (None, "auto", known[name]) for name, value in said.items())


def measured(
    known: Layout | None,
    compute: Compute,
    cluster: Cluster,
    *,
    source: Source,
    split: str,
    config: TrainConfig,
    device: str,
    shipment: Shipment | None = None,
    sizes: Sequence[int] = (),
) -> Layout:
    """How many trials at once and what an epoch costs; measured where nothing is known that is wanted and has room here.

    Args:
        known: as measured before.
        split: stem of the split that is trained on; config: what is trained; device: as asked for.
        sizes: where `image_size` is searched: all of them.
    """
    if known is not None and compute.allows(known) and cluster.room(known.cpus, known.gpus):
        return known
    heading("Measure")
    layout = measure_layout(
        source,
        split,
        config,
        cluster,
        device=device,
        slots=compute.slots,
        cpus=compute.cpus,
        gpus=compute.gpus,
        shipment=shipment,
        sizes=sizes,
    )
    at_once = f"{layout.slots} trial(s) at once with {layout.threads} thread(s) each"
    tell(f"{cluster.describe()}: {at_once}, {layout.epoch_seconds:.1f} s per epoch")
    for line in layout.tried if len(layout.tried) > 1 else ():
        tell(f"  {line}")
    if layout.size_seconds:
        each = ", ".join(f"{seconds:.1f} s at {size} px" for size, seconds in layout.by_size.items())
        tell(f"  an epoch: {each}; what fits was tried at {max(layout.by_size)} px")
    no_bf16 = (
        " (this GPU has no bf16; its mixed precision is --set precision=fp16)"
        if (layout.ran_on, layout.precision) == ("cuda", "fp32")
        else ""
    )
    tell(f"  device {layout.ran_on}, precision {layout.precision}{no_bf16}")
    return layout
