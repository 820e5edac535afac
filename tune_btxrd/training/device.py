"""Where training runs: device, precision, seconds, the global random state of an epoch, memory handed back."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tune_btxrd.errors import ConfigError

AVAILABLE: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # what autocast computes in
SCALED = ("cuda", "cpu")  # devices of torch.amp.GradScaler; on a CPU it is slow, and there for tests


def resolve_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first that this machine has of CUDA, MPS, CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        name = next(kind for kind, available in AVAILABLE.items() if available())
    if name not in AVAILABLE:
        raise ConfigError(f"`device` must be one of auto, {', '.join(AVAILABLE)}, but got {name!r}.")
    if not AVAILABLE[name]():
        raise ConfigError(f"`--device {name}` needs such a device, but torch finds none here: use --device auto.")
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Precision, "fp32", "bf16" or "fp16" (autocast); "auto" is bf16 on CUDA hardware that has it and fp32 everywhere else.

    Raises:
        ConfigError: bf16 or fp16 was asked for where the hardware has none.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        return "bf16" if has_bf16 else "fp32"
    if name == "bf16" and device.type != "cpu" and not has_bf16:  # on a CPU it is merely slow
        raise ConfigError(f"precision=bf16 needs hardware that computes in it, but {device} has none: use precision=auto.")
    if name == "fp16" and device.type not in SCALED:
        raise ConfigError(f"precision=fp16 needs scaled gradients, which {device} has not: use precision=auto.")
    return name


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """What keeps fp16's gradients within its range: none for other precisions. Its state is part of a training."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward pass runs at this precision."""
    return torch.autocast(device.type, dtype=HALVES.get(precision, torch.bfloat16), enabled=precision in HALVES)


def set_up(threads: int | None) -> None:
    """Settings of the whole process, made once per slot: CPU threads."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def allow_tf32(device: torch.device, *, allowed: bool) -> None:
    """Whether float32 products on CUDA may round their factors to TF32 (10 bits of mantissa); set by every training."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's global generators of CPU and `device` start from `seed`; outside, they have not moved."""
    cuda = device.type == "cuda"
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if cuda else []):
        try:
            torch.manual_seed(seed)
            yield
        finally:
            if mps_state is not None:
                torch.mps.set_rng_state(mps_state)


class Clock:
    """Seconds between marks. On CUDA marks are events in the stream, so that marking never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Notes this moment of the device's work."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here
            event.record()
            self._marks.append(event)
            return
        if self._device.type == "mps":
            torch.mps.synchronize()
        self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Seconds from each mark to the next; the caller has waited for the device since the last mark."""
        pairs = zip(self._marks, self._marks[1:], strict=False)
        if self._device.type == "cuda":
            return [start.elapsed_time(end) / 1000 for start, end in pairs]
        return [end - start for start, end in pairs]


def derive_seed(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. derive_seed(42, epoch, "order"): other parts, unrelated numbers."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
