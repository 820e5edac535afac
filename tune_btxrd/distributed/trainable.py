"""Trainable function that Ray Tune runs in a warm slot, one trial after another: trains and reports each epoch."""

import gc
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment, local_source, scratch
from tune_btxrd.distributed.trial_config import TrialConfig
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.source import Source

if TYPE_CHECKING:  # torch stays out of the driver
    from tune_btxrd.distributed.trial_checkpoint import TrialCheckpoint
    from tune_btxrd.training.fold_states import FoldStates
    from tune_btxrd.training.state import TrainState

Report = Callable[[dict[str, Any]], None]


def make_trainable(
    name: str,
    source: Source,
    *,
    device: str,
    threads: int | None,
    checkpoints: Path,
    remote: RemoteFolder | None = None,
    shipment: Shipment | None = None,
    pauses: Collection[int] = (),
) -> Callable[[dict[str, Any]], None]:
    """Makes the function that Tune runs for each trial; what all trials share travels once, in its closure.

    Args:
        name: what Ray's dashboard calls the slots.
        checkpoints: folder of the trials' checkpoints, for resuming; `remote`: where they go beyond this machine.
        shipment: pixels and splits for nodes that do not see the driver's folders.
        pauses: epochs at which trials may be paused, so that they are saved before they are reported.
    """
    values, folder, rungs = source.to_dict(), str(checkpoints), frozenset(pauses)

    def trainable(config: dict[str, Any]) -> None:
        from ray import tune

        from tune_btxrd.distributed.failures import classified
        from tune_btxrd.distributed.trainable import run_trial
        from tune_btxrd.distributed.trial_config import TrialConfig

        with classified():
            trial = TrialConfig.from_dict(config)
            here = local_source(Source.from_dict(values).at(trial.hyperparameters.image_size), shipment)
            aside = scratch(Path(folder).parent.name) if remote else Path(folder)
            run_trial(
                trial, here, tune.report, device=device, threads=threads, checkpoints=aside, remote=remote, pauses=rungs
            )

    trainable.__name__ = name
    return trainable


def run_trial(
    config: TrialConfig,
    source: Source,
    report: Report,
    *,
    device: str,
    threads: int | None,
    checkpoints: Path,
    remote: RemoteFolder | None = None,
    pauses: Collection[int] = (),
) -> None:
    """One trial from its start or its checkpoint to its end; one report per epoch.

    Rows of epochs that a checkpoint holds are reported again: whoever listens takes each epoch once, and none is lost
    between a saved checkpoint and a report that never arrived. `note` says what was wrong with one.
    """
    from tune_btxrd.distributed.trial_checkpoint import TrialCheckpoint
    from tune_btxrd.search.columns import named_row
    from tune_btxrd.training.state import Diverged

    names, centers = source.class_names, source.centers
    with ExitStack() as ends:
        stores = [TrialCheckpoint(checkpoints / file, class_names=names, remote=remote) for file in _files(config)]
        for store in stores:
            ends.callback(store.close)
        state = _state(config, source, stores, device=device, threads=threads)
        note = "; ".join(store.note for store in stores if store.note)
        place = {"slot": f"{os.uname().nodename}:{os.getpid()}", "note": note}
        try:
            for metrics in list(state.history):
                report(named_row(metrics, names, centers=centers) | place)
            for metrics in _epochs(state):
                _settle(stores)  # no more than this epoch can be lost
                may_pause = metrics.epoch in pauses and not metrics.stop
                if may_pause:
                    _save(state, stores)
                    _settle(stores)
                report(named_row(metrics, names, centers=centers) | place)  # ends the trial here where it is stopped
                if not metrics.stop and not may_pause:
                    _save(state, stores)
        except Diverged as error:
            report(_diverged_row(error) | place)


def _files(config: TrialConfig) -> list[str]:
    """Names of a trial's checkpoints: one per split that it trains on."""
    if len(config.splits) == 1:
        return [f"{config.trial}.pt"]
    return [f"{config.trial}.fold{number}.pt" for number in range(1, len(config.splits) + 1)]


def _state(
    config: TrialConfig, source: Source, stores: "Sequence[TrialCheckpoint]", *, device: str, threads: int | None
) -> "TrainState | FoldStates":
    """The training, from its start or its checkpoints; over several folds where the trial has several splits."""
    from tune_btxrd.training.checkpoint import restore
    from tune_btxrd.training.fold_states import FoldStates, fold_config

    asked, slot = config.hyperparameters, warm_slot(device, threads)
    parts = [source.training_data(split) for split in config.splits]
    if len(parts) > 1:
        saved = [store.load(fold_config(asked).to_dict()) for store in stores]
        return FoldStates(slot, asked, parts=parts, saved=saved, class_names=source.class_names)
    last = stores[0].load(asked.to_dict())
    return slot.start(asked, parts[0], keep_best=False) if last is None else restore(slot, last, parts[0])


def _epochs(state: "TrainState | FoldStates") -> Iterator[EpochMetrics]:
    """The epochs that follow. Raises: Diverged."""
    from tune_btxrd.training.loop import train
    from tune_btxrd.training.state import TrainState

    return train(state) if isinstance(state, TrainState) else state.train()


def _save(state: "TrainState | FoldStates", stores: "Sequence[TrialCheckpoint]") -> None:
    """Copies the training and writes it in the background."""
    from tune_btxrd.training.state import TrainState

    if isinstance(state, TrainState):
        stores[0].save(state)
        return
    for store, checkpoint in zip(stores, state.checkpoints, strict=True):
        assert checkpoint is not None
        store.keep(checkpoint)


def _settle(stores: "Sequence[TrialCheckpoint]") -> None:
    """Waits until the last writes have ended."""
    for store in stores:
        store.settle()


_SLOT: dict[tuple[str, int | None], Any] = {}


def warm_slot(device: str, threads: int | None) -> Any:
    """This process's slot; made by the first trial, used by all that follow."""
    from tune_btxrd.training.slot import Slot

    if (device, threads) not in _SLOT:
        _SLOT.clear()
        gc.collect()
        _SLOT[device, threads] = Slot(device=device, threads=threads)
    return _SLOT[device, threads]


def _diverged_row(error: Any) -> dict[str, Any]:
    """Row that reports divergence instead of an epoch; Tune requires `objective` in every row."""
    return {"epoch": error.epoch, "lr": error.lr, "objective": float("inf"), "stop": "diverged", "reason": str(error)}
