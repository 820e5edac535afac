"""Trainable function that Ray Tune runs in a warm slot, one trial after another: trains and reports each epoch."""

import gc
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment, local_source, scratch
from tune_btxrd.distributed.trial_config import TrialConfig
from tune_btxrd.training.source import Source

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
            here = local_source(Source.from_dict(values), shipment)
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
    from tune_btxrd.training.loop import train
    from tune_btxrd.training.state import Diverged

    store = TrialCheckpoint(checkpoints / f"{config.trial}.pt", class_names=source.class_names, remote=remote)
    state = _state(config, source, store, device=device, threads=threads)
    place = {"slot": f"{os.uname().nodename}:{os.getpid()}", "note": store.note}
    try:
        for metrics in state.history:
            report(named_row(metrics, source.class_names) | place)
        for metrics in train(state):
            store.settle()  # no more than this epoch can be lost
            may_pause = metrics.epoch in pauses and not metrics.stop
            if may_pause:
                store.save(state)
                store.settle()
            report(named_row(metrics, source.class_names) | place)  # ends the trial here where it is stopped
            if not metrics.stop and not may_pause:
                store.save(state)
    except Diverged as error:
        report(_diverged_row(error) | place)
    finally:
        store.close()


def _state(config: TrialConfig, source: Source, store: Any, *, device: str, threads: int | None) -> Any:
    from tune_btxrd.training.checkpoint import restore

    slot = warm_slot(device, threads)
    data = source.training_data(config.split)
    saved = store.load(config.hyperparameters.to_dict())
    return slot.start(config.hyperparameters, data, keep_best=False) if saved is None else restore(slot, saved, data)


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
