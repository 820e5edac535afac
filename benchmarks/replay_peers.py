"""Searches of other libraries in the replay; each needs its package, which the project itself does not.

    pip install --target PEERS --no-deps syne-tune==0.13.0 autograd dill statsmodels patsy formulaic interface-meta psutil
    PYTHONPATH=.:PEERS python -m benchmarks.replay run --workers 2

Left out: PriorBand (neural-pipeline-search 0.17 needs pandas 2 and botorch), BOHB of SMAC 2.4 (imports, not yet driven).

0.13 is the last Syne Tune with MOBSTER, Hyper-Tune and DyHPO; it runs with numpy 2.
"""

import logging
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from benchmarks.replay_families import Family
from benchmarks.replay_methods import SLOTS, Method, Spent
from benchmarks.replay_training import Training, begin


def syne_tune(name: str, **options: Any) -> Callable[[Family], Spent]:
    """A scheduler of Syne Tune that pauses trials at rungs and promotes them."""

    def search(family: Family) -> Spent:
        from syne_tune.backend.trial_status import Trial

        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        scheduler = _scheduler(name, family, options)
        known: dict[int, tuple[Any, Training]] = {}
        live: list[int] = []
        while True:
            while len(live) < SLOTS:
                number, suggestion = len(known), scheduler.suggest(len(known))
                assert suggestion is not None
                if suggestion.spawn_new_trial_id:
                    config = {item.name: suggestion.config[item.name] for item in family.spec.space}
                    known[number] = Trial(number, suggestion.config, datetime.now()), begin(family, config)
                    scheduler.on_trial_add(known[number][0])
                    live.append(number)
                else:
                    live.append(int(suggestion.checkpoint_trial_id))
            for number in list(live):
                trial, training = known[number]
                training.step()
                result = {"val_loss": training.best, "epoch": training.epoch}
                decision = scheduler.on_trial_result(trial, result)
                if training.stop:
                    scheduler.on_trial_complete(trial, result)
                if training.stop or decision != "CONTINUE":
                    live.remove(number)
                yield [item for _, item in known.values()]

    return search


def _scheduler(name: str, family: Family, options: dict[str, Any]) -> Any:
    from syne_tune import config_space
    from syne_tune.optimizer import baselines

    spec = family.spec
    space: dict[str, Any] = {
        item.name: (config_space.loguniform if item.log else config_space.uniform)(*item.bounds) for item in spec.space
    }
    return getattr(baselines, name)(
        {**space, "epochs": spec.epochs},
        metric="val_loss",
        resource_attr="epoch",
        max_resource_attr="epochs",
        mode="min",
        random_seed=spec.seed,
        points_to_evaluate=[dict(spec.start[0])],
        search_options={"debug_log": False},
        **options,
    )


def missing(name: str) -> str:
    """Why a method cannot run here, or ""."""
    return "" if find_spec("syne_tune") else f"{name}: Syne Tune is not installed"


PEERS: dict[str, Method] = {
    "Syne Tune ASHA (promotion)": Method(syne_tune("ASHA", type="promotion", grace_period=4, reduction_factor=3), ("best",)),
    "Syne Tune BOHB": Method(syne_tune("BOHB", type="promotion", grace_period=4, reduction_factor=3), ("best",)),
    "Syne Tune MOBSTER": Method(syne_tune("MOBSTER", type="promotion", grace_period=4, reduction_factor=3), ("best",)),
    "Syne Tune Hyper-Tune": Method(
        syne_tune("HyperTune", type="promotion", grace_period=4, reduction_factor=3, brackets=2), ("best",)
    ),
    "Syne Tune DyHPO": Method(syne_tune("DyHPO", grace_period=1), ("best",)),
}
