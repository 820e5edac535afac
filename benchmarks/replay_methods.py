"""The searches that are compared. Each is a generator: after every epoch that it spends it yields all trainings so far.

All begin with the hand-made config, train in two slots, and end a training by the trainer's own budget and patience. What a
method would choose is a rule of its own (`RULES`): the same search may be judged by several.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from benchmarks.replay_families import Family
from benchmarks.replay_training import Training, begin
from tune_btxrd.distributed.tune_adapters import Rungs
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import TrialRecord, read_search
from tune_btxrd.search.selection.recommendation import recommend
from tune_btxrd.search.space.knowledge import Knowledge, informed

Spent = Iterator[list[Training]]
SLOTS = 2
ROUND, KEPT = 24, 3  # keep-top-K: so many configs for one epoch, so many of them to the end


@dataclass(frozen=True)
class Method:
    """A search and the rules by which its winner may be chosen, the usual one first.

    Attributes:
        settings: of the spec, for searches of our own.
    """

    search: Callable[[Family], Spent]
    rules: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def run(self, family: Family, seed: int) -> Spent:
        """The search with this seed."""
        spec = family.spec.override({**self.settings, "seed": seed}, {})
        return self.search(replace(family, spec=spec))


def random_full(family: Family) -> Spent:
    """Random configs, each to its end."""
    begun: list[Training] = []
    for config in _random_configs(family):
        begun.append(begin(family, config))
        while not begun[-1].stop:
            begun[-1].step()
            yield begun


def top_k(family: Family) -> Spent:
    """Rounds of random configs for one epoch each, of which the best go on to their end."""
    configs, begun = _random_configs(family), list[Training]()
    while True:
        latest = [begin(family, next(configs)) for _ in range(ROUND)]
        for training in latest:
            begun.append(training)
            training.step()
            yield begun
        for training in sorted(latest, key=lambda item: item.best)[:KEPT]:
            while not training.stop:
                training.step()
                yield begun


def stock(family: Family) -> Spent:
    """Ray's OptunaSearch and ASHA as they come: the last loss counts, and a stopped trial is COMPLETE with it."""
    spec = family.spec
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=spec.seed))
    study.enqueue_trial(dict(spec.start[0]))
    asha = ASHAScheduler(
        time_attr="epoch",
        metric="val_loss",
        mode="min",
        max_t=spec.epochs,
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
    )
    live: list[tuple[optuna.trial.Trial, Training, Any]] = []
    begun: list[Training] = []
    while True:
        while len(live) < SLOTS:
            trial = study.ask()
            spec.suggest(trial)
            handle = SimpleNamespace(trial_id=str(trial.number))
            asha.on_trial_add(None, handle)
            begun.append(begin(family, trial.params))
            live.append((trial, begun[-1], handle))
        for item in list(live):
            trial, training, handle = item
            row = training.step()
            decision = asha.on_trial_result(None, handle, row)
            if training.stop or decision == TrialScheduler.STOP:
                asha.on_trial_complete(None, handle, row)
                live.remove(item)
                study.tell(trial, training.last)
            yield begun


def hyperband(family: Family) -> Spent:
    """Optuna's own Hyperband pruner and TPE."""
    spec = family.spec
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=spec.seed),
        pruner=optuna.pruners.HyperbandPruner(1, spec.epochs, int(spec.reduction_factor)),
    )
    study.enqueue_trial(dict(spec.start[0]))
    live: list[tuple[optuna.trial.Trial, Training]] = []
    begun: list[Training] = []
    while True:
        while len(live) < SLOTS:
            trial = study.ask()
            spec.suggest(trial)
            begun.append(begin(family, trial.params))
            live.append((trial, begun[-1]))
        for trial, training in list(live):
            row = training.step()
            trial.report(row["val_loss"], row["epoch"])
            if training.stop:
                study.tell(trial, training.best)
            elif trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            if training.stop or study.trials[trial.number].state.is_finished():
                live.remove((trial, training))
            yield begun


def ours(family: Family) -> Spent:
    """The project's own conductor, studies, rungs and promotion."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "search.json").write_text("{}")
        journal = Journal(folder)
        conductor = Conductor(family.spec, journal=journal, record=read_search(folder), slots=SLOTS, split="common")
        try:
            yield from _conducted(conductor, Rungs(family.spec, conductor), family)
        finally:
            journal.close()


def believing(share: float, *, first: bool) -> Callable[[Family], Spent]:
    """Ours with a prior at the config of this quantile (0: the best), and with `first` also that config as trial 1."""

    def search(family: Family) -> Spent:
        values = family.at_quantile(share)
        known = Knowledge(search="earlier", trial="0", score="", values=values)
        spec = informed(family.spec, known)
        return ours(replace(family, spec=spec if first else replace(spec, start=family.spec.start)))

    return search


def _conducted(conductor: Conductor, rungs: Rungs, family: Family) -> Spent:
    known: dict[str, Training] = {}
    live: dict[str, Any] = {}
    begun: list[Training] = []
    while True:
        while isinstance(job := conductor.next(), PlannedTrial):
            live[job.label] = SimpleNamespace(config={"trial": job.label, "role": job.role})
            if job.label not in known:
                rungs.on_trial_add(None, live[job.label])
                known[job.label] = begin(family, job.config.to_dict(), label=job.label)
                begun.append(known[job.label])
        for label, trial in list(live.items()):
            training = known[label]
            row = training.step()
            paused = conductor.pauses(label, row)
            stopped = rungs.on_trial_result(None, trial, row) == TrialScheduler.STOP
            conductor.epoch(label, row)
            if training.stop or stopped or paused:
                del live[label]
            if training.stop or stopped:
                rungs.on_trial_complete(None, trial, row)
                training.state = "complete" if training.stop else "pruned"
                reason = ENDINGS[training.stop] if training.stop else rungs.reasons[label]
                conductor.end(label, state=training.state, reason=reason)
            yield from repeat(begun, family.spec.folds_per_trial)  # an epoch is spent once per fold


def _random_configs(family: Family) -> Iterator[Mapping[str, Any]]:
    yield family.spec.start[0]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=family.spec.seed))
    while True:
        trial = study.ask()
        family.spec.suggest(trial)
        yield trial.params


def ended(begun: list[Training], family: Family) -> Training:
    """The lowest best loss of trainings that ran to their end; before the first of them, of all."""
    return min((item for item in begun if item.epoch), key=lambda item: (not item.stop, item.best))


def lowest(begun: list[Training], family: Family) -> Training:
    """The lowest best loss of all trainings."""
    return min((item for item in begun if item.epoch), key=lambda item: item.best)


def lowest_last(begun: list[Training], family: Family) -> Training:
    """The lowest last loss of all trainings, as Ray's `get_best_result` comes."""
    return min((item for item in begun if item.epoch), key=lambda item: item.last)


def model(begun: list[Training], family: Family) -> Training:
    """The product's recommendation."""
    records = [
        TrialRecord(
            label=str(number),
            number=number,
            role="search",
            config={},
            params=item.config,
            state="complete" if item.stop else "running" if item.state == "running" else item.state,
            epochs=item.rows,
        )
        for number, item in enumerate(begun)
    ]
    best = recommend(records, family.spec).best
    assert best is not None
    return begun[best.trial.number]


RULES: dict[str, Callable[[list[Training], Family], Training]] = {
    "ended": ended,
    "best": lowest,
    "last": lowest_last,
    "model": model,
}
OWN_RULES = ("model", "best", "ended")
ASHA = {"scheduler": "asha"}
PRIORS = {"good": 0.0, "mediocre": 0.4, "bad": 1.0}  # quantile of truth of the config that is believed good
METHODS: dict[str, Method] = {
    "random, full length": Method(random_full, ("best",)),
    "stock Ray + Optuna + ASHA": Method(stock, ("last",)),
    "top 3 of 24 after one epoch": Method(top_k, ("best",)),
    "Optuna Hyperband + TPE": Method(hyperband, ("best",)),
    "asha, tpe": Method(ours, OWN_RULES, ASHA),
    "asha, random": Method(ours, OWN_RULES, {**ASHA, "sampler": "random"}),
    "promote, random": Method(ours, OWN_RULES, {"scheduler": "promote", "sampler": "random"}),
    "promote, tpe": Method(ours, OWN_RULES, {"scheduler": "promote"}),
    "promote, mixed": Method(ours, OWN_RULES, {"scheduler": "promote", "random_share": 0.5}),
}
FOLDED = {f"asha, tpe, {count} folds": Method(ours, OWN_RULES, {**ASHA, "folds_per_trial": count}) for count in (3, 5)}
KNOWING: dict[str, Method] = {
    **{f"asha, tpe, {name} prior": Method(believing(share, first=False), OWN_RULES, ASHA) for name, share in PRIORS.items()},
    **{
        f"asha, tpe, from {name} search": Method(believing(share, first=True), OWN_RULES, ASHA)
        for name, share in PRIORS.items()
    },
}
