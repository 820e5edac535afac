"""TrainState <-> file, whole or not at all. Plain tensors and plain data: loads with `weights_only=True`."""

import errno
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ResultError
from tune_btxrd.files import aside
from tune_btxrd.stages import stage_at
from tune_btxrd.training.models.shell import create
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.schedule import group_parts, learning_rates
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import BestState, TrainState

FORMAT = 1
MOST_BYTES = 8 * 2**30  # of a checkpoint; the largest model of timm has 2.6 GiB of weights, its optimizer state twice that
SCALARS = tuple(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool"))
TRAINING_ONLY = ("trained_state_dict", "averaged_steps", "scaler_state_dict")  # of states that a soup has not
KEYS = (
    "epoch",
    "model_state_dict",
    "optimizer_state_dict",
    "scheduler_state_dict",
    "val_loss",
    "best_val_loss",
    "config",
    "class_names",
    "normalization",
    "class_weights",
    "history",
    "best",
)


class SavedStates(TypedDict):
    """States of a training at one epoch, in a checkpoint.

    Attributes:
        model_state_dict: what was validated; with `ema` the averages.
        trained_state_dict, averaged_steps: with `ema` the weights that were averaged, and over how many steps.
        scaler_state_dict: with fp16.
    """

    model_state_dict: dict[str, Tensor]
    optimizer_state_dict: dict[str, object]
    trained_state_dict: NotRequired[dict[str, Tensor]]
    averaged_steps: NotRequired[int]
    scaler_state_dict: NotRequired[dict[str, object]]


class Checkpoint(SavedStates):
    """Content of a checkpoint file; `load` requires KEYS, the reader's keys may be missing in a foreign file.

    Attributes:
        best: states of the best epoch where that is not `epoch`; None in a checkpoint of the best epoch.
        members: of a soup: whose weights it is the mean of; else empty.
    """

    format: NotRequired[int]
    epoch: int
    scheduler_state_dict: dict[str, object]
    val_loss: float
    best_val_loss: float
    config: dict[str, object]
    class_names: list[str]
    normalization: dict[str, list[float]]
    class_weights: Tensor
    history: list[dict[str, object]]
    task: NotRequired[str]
    precision: NotRequired[str]
    keep_best: NotRequired[bool]
    channels: NotRequired[list[str]]
    spacing: NotRequired[float | None]
    window: NotRequired[list[float] | None]
    members: NotRequired[list[str]]
    best: SavedStates | None


class UnusableError(ResultError):
    """A file is no whole checkpoint of ours: damaged, foreign, or with weights that are not finite."""


def checkpoint_dict(state: TrainState, *, class_names: Sequence[str], which: Literal["last", "best"] = "last") -> Checkpoint:
    """The training between two epochs as plain data that shares no memory with it.

    "best" is what "last" was right after the best epoch. Keys: KEYS, and for the reader task, precision, keep_best, format,
    of volumes channels and spacing, of DICOM images the window.
    `best` holds the SavedStates of the best epoch in a "last" whose last epoch is not the best.
    """
    assert state.live and state.whole and state.history and len(class_names) == state.data.num_classes
    is_best = state.best_epoch == state.epoch
    assert which == "last" or is_best or state.best is not None
    if which == "best" and not is_best:
        assert state.best is not None
        return _plain(state, state.best, state.best_epoch, class_names)
    plain = _plain(state, state.states(), state.epoch, class_names)
    if state.best is not None and not is_best:
        plain["best"] = _saved(state.best)
    return plain


def soup_checkpoint(
    best: Checkpoint, tensors: Mapping[str, Tensor], *, members: Sequence[str], val_loss: float
) -> dict[str, object]:
    """A checkpoint of averaged weights: all that opens a model, and nothing that a training could go on from.

    Args:
        best: of the best member, whose config and classes it has; members: what has been averaged.
    """
    kept = {name: value for name, value in best.items() if name not in TRAINING_ONLY}
    return kept | {
        "epoch": 0,
        "model_state_dict": _portable(dict(tensors)),
        "optimizer_state_dict": {},
        "scheduler_state_dict": {},
        "val_loss": val_loss,
        "best_val_loss": val_loss,
        "history": [],
        "best": None,
        "members": list(members),
    }


def save(checkpoint: Mapping[str, object], path: Path) -> None:
    """Writes aside, flushes to the disk, renames: `path` is complete or what it was before.

    Raises:
        ResultError: the folder cannot be written, or the disk is full.
    """
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    try:
        with aside(path) as part:
            part.write_bytes(buffer.getbuffer())
    except OSError as error:
        reason = f"{error.strerror or error} ({buffer.getbuffer().nbytes / 1e6:.0f} MB needed)"
        raise ResultError(f"The checkpoint {path} must be writable, but got: {reason}.") from error


def load(path: Path) -> Checkpoint:
    """What `save` wrote, on the CPU.

    Raises:
        ResultError: no such file, or one that the disk does not give.
        UnusableError: a damaged one, one that this project has not written, or weights that are not finite.
    """
    loaded = read_plain(path)
    absent = [key for key in KEYS if not isinstance(loaded, dict) or key not in loaded]
    if absent:
        raise UnusableError(f"A checkpoint must be one of tune_btxrd, but {path} has no {absent[0]!r}: use another.")
    require_finite(loaded["model_state_dict"], path)
    require_finite(loaded.get("trained_state_dict", {}), path)
    return cast("Checkpoint", dict(loaded))


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises UnusableError where a weight is NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UnusableError(f"Weights must be finite, but {name} in {path} is not: use another checkpoint.")


def read_plain(path: Path) -> Any:
    """What `torch.save` wrote into a file, on the CPU: every byte checked, and plain tensors and data alone.

    The file is a zip with a CRC-32 for each record, which torch writes and never checks: one flipped bit in a weight
    turned a prediction without a word.

    Raises:
        ResultError: no such file, or one that the disk does not give.
        UnusableError: a damaged one, or one with more in it than plain data; the text says what.
    """
    if not path.is_file():
        raise ResultError(f"A checkpoint must be a file, but {path} is none.")
    if fault := _fault(path):
        raise UnusableError(f"A checkpoint must be complete, but {path} cannot be read ({fault}): use another.")
    scalar: Any = np.float64(0).__reduce__()[0]  # its module was renamed in NumPy 2
    known = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*known, np.dtype, *SCALARS]):  # a score as NumPy's number is common
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # alien files raise anything, from EOFError to UnpicklingError
        if "PytorchStreamReader" in str(error):  # torch's own reading of the zip is stricter than Python's
            raise UnusableError(
                f"A checkpoint must be complete, but {path} cannot be read (its directory is damaged): use another."
            ) from error
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise UnusableError(
            f"A checkpoint must hold plain tensors and data alone, but {path} holds "
            f"{name[1] if name else 'something else'}: save its state_dict and plain values."
        ) from error


def _fault(path: Path) -> str:
    """What is wrong with the bytes of a checkpoint; empty where nothing is. Raises: ResultError if unreadable."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        return f"{size / 2**30:.0f} GiB, where {MOST_BYTES / 2**30:.0f} are the most"
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(item.compress_type != zipfile.ZIP_STORED for item in records) or sum(r.file_size for r in records) > size:
                return "its records are compressed or overlap, which torch.save never writes"
            odd = archive.testzip()
    except Exception as error:  # a damaged directory raises anything: BadZipFile, struct.error, EINVAL of a seek before 0
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise ResultError(f"A checkpoint must be readable, but {path}: {error.strerror or error}.") from error
        return "it is cut off, damaged, or no zip file as torch.save writes since version 1.6"
    return f"{odd} is not what was written: bits have changed" if odd else ""


def restore(slot: Slot, checkpoint: Checkpoint, data: TrainingData) -> TrainState:
    """The training of a checkpoint in this slot; `train` goes on as if it had never been interrupted.

    Raises:
        ResultError: the checkpoint's training saw other classes, another train part or another backbone.
    """
    if checkpoint.get("members"):
        raise ResultError("A training goes on from a checkpoint of its own, but this one is a soup: use one of its members.")
    config = TrainConfig.from_dict(checkpoint["config"])
    _check_model(slot, config, checkpoint, data)
    trained = checkpoint.get("trained_state_dict", checkpoint["model_state_dict"])
    state = slot.restart(config, data, trained, keep_best=bool(checkpoint["keep_best"]))
    if not torch.equal(state.class_weights.cpu(), checkpoint["class_weights"]):
        raise ResultError("A training must be resumed on its own split, but the train part has other class counts.")
    _load_optimizer(state.optimizer, checkpoint["optimizer_state_dict"])
    if state.averages is not None:
        state.averages.load(checkpoint["model_state_dict"], steps=checkpoint["averaged_steps"])
    if state.scaler is not None:
        state.scaler.load_state_dict(checkpoint["scaler_state_dict"])
    state.history = [data.task.record.from_dict(row) for row in checkpoint["history"]]
    if (best := checkpoint["best"]) is not None:
        state.best = _best(best)
    return state


def load_model(path: Path) -> tuple[nn.Module, Checkpoint]:
    """The model of a checkpoint, on the CPU in eval mode, and the checkpoint. Raises: ResultError as `load`."""
    checkpoint = load(path)
    config = TrainConfig.from_dict(checkpoint["config"])
    model = create(
        config.backbone,
        len(checkpoint["class_names"]),
        head=config.head,
        channels=len(checkpoint["normalization"]["mean"]),
        stem_stride=config.stem_stride,
    )
    model.load_state_dict(checkpoint["model_state_dict"])
    return model.eval(), checkpoint


def scheduler_state(optimizer: torch.optim.Optimizer, config: TrainConfig, epoch: int) -> dict[str, object]:
    """Loads into torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max, eta_min=min_lr) after `epoch`.

    With stages it is that of the stage of `epoch`, whose epochs are T_max; one learning rate per optimizer group.
    """
    parts = group_parts(optimizer)
    _, before, stage = stage_at(config.stage_list, epoch)
    first, last = learning_rates(before, config), learning_rates(epoch, config)
    return {
        "T_max": stage.epochs,
        "eta_min": config.min_lr,
        "base_lrs": [first[part] for part in parts],
        "last_epoch": epoch - before,
        "_step_count": epoch - before + 1,
        "_last_lr": [last[part] for part in parts],
    }


def _plain(state: TrainState, states: BestState, epoch: int, class_names: Sequence[str]) -> Checkpoint:
    """The checkpoint of one epoch, without the states of the best one."""
    rows = state.history[:epoch]
    best = max(row.epoch for row in rows if row.improved)
    return {
        "format": FORMAT,
        "epoch": epoch,
        **_saved(states),
        "scheduler_state_dict": scheduler_state(state.optimizer, state.config, epoch),
        "val_loss": rows[-1].val_loss,
        "best_val_loss": rows[best - 1].val_loss,
        "config": state.config.to_dict(),
        "class_names": list(class_names),
        "normalization": {"mean": state.mean.tolist(), "std": state.std.tolist()},
        "class_weights": _portable(state.class_weights),
        "history": [row.to_dict() for row in rows],
        "task": state.data.task.name,
        "precision": state.precision,
        "keep_best": state.keep_best,
        "channels": list(state.data.channel_names),
        "spacing": state.data.spacing,
        "window": None if state.data.window is None else list(state.data.window),
        "members": [],
        "best": None,
    }


def _saved(states: BestState) -> SavedStates:
    saved: SavedStates = {
        "model_state_dict": _portable(dict(states.model)),
        "optimizer_state_dict": _portable(dict(states.optimizer)),
    }
    if states.trained is not None:
        saved |= {"trained_state_dict": _portable(dict(states.trained)), "averaged_steps": states.averaged}
    if states.scaler is not None:
        saved |= {"scaler_state_dict": dict(states.scaler)}
    return saved


def _best(saved: SavedStates) -> BestState:
    """The inverse of `_saved`."""
    return BestState(
        model=saved["model_state_dict"],
        optimizer=saved["optimizer_state_dict"],
        trained=saved.get("trained_state_dict"),
        averaged=saved.get("averaged_steps", 0),
        scaler=saved.get("scaler_state_dict"),
    )


def _portable(tree: Any) -> Any:
    """The same tree with every tensor copied to the CPU, contiguous (as safetensors and plain timm expect)."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(tree, dict):
        return {key: _portable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_portable(value) for value in tree]
    return tree


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, object]) -> None:
    """Loads a copy, each moment in its parameter's memory layout: the fused step walks both side by side."""
    optimizer.load_state_dict(dict(saved))
    for parameter, moments in optimizer.state.items():
        tensors = {name: value for name, value in moments.items() if isinstance(value, Tensor)}  # sgd may hold None
        for name, value in tensors.items():
            like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            moments[name] = like.detach().copy_(value)


def _check_model(slot: Slot, config: TrainConfig, checkpoint: Checkpoint, data: TrainingData) -> None:
    if len(checkpoint["class_names"]) != data.num_classes:
        found = f"{len(checkpoint['class_names'])} classes instead of {data.num_classes}"
        raise ResultError(f"A training must be resumed on its own dataset, but the checkpoint has {found}.")
    own = slot.shell(config, data.num_classes, channels=data.channels).model.state_dict()
    saved = checkpoint["model_state_dict"]
    wanted = {"trained_state_dict": bool(config.ema), "scaler_state_dict": config.precision == "fp16"}
    if absent := [name for name, needed in wanted.items() if needed and name not in checkpoint]:
        raise ResultError(
            f"A checkpoint must hold all that its config trains with, but {absent[0]} is missing: use another."
        )
    odd = [
        name
        for name in own.keys() | saved.keys()
        if name not in own or name not in saved or own[name].shape != saved[name].shape
    ]
    if odd:
        raise ResultError(f"A checkpoint must fit its backbone, but {odd[0]} does not fit {config.backbone}.")
