"""The end of a search in made-up time: how long slots stand idle with and without early repeats of the confirmation.

    python -m benchmarks.idle_end                30 seeds per row, some 5 minutes; table in benchmarks/results/idle_end.md

The product's own conductor, studies, rungs and choice of the winner, on made-up curves (`replay_families.py`), without Ray
and without a clock: an epoch takes one unit of time, give or take a tenth that depends on (seed, trial, epoch) alone, and a
slot takes its next trial at once. The space is the shipped one: 24 trials of up to 30 epochs, the top 3 and the hand-made
config 3 times each. Pairs are `before / after`; before, only the hand-made config's repeats begin early and none is stopped.
Idle are slots without work between the first trial and the last, those at the end of the confirmation included.
"""

import argparse
import heapq
import logging
import statistics
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import optuna
from ray.tune.schedulers import TrialScheduler

from benchmarks.outcome import circumstances, write
from benchmarks.replay_families import Family, family
from benchmarks.replay_training import Training, begin
from tune_btxrd.distributed.tune_adapters import Rungs
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import read_search
from tune_btxrd.search.repeats import Repeat, Repeats
from tune_btxrd.search.selection.winner import select

FAMILIES = ("smooth", "noisy", "overfitting", "crossing", "two optima")
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "promote": {"scheduler": "promote"},
    "asha": {"scheduler": "asha"},
    "asha, recommend: best": {"scheduler": "asha", "recommend": "best"},
    "none": {"scheduler": "none"},
}
CASES = (
    *((name, slots) for name in ("promote", "asha") for slots in (2, 4, 8, 16)),
    ("asha, recommend: best", 8),
    ("none", 8),
)


class HandMadeAlone(Repeats):
    """Early repeats as they were: of the hand-made config alone."""

    def early(self, *, may_be_wasted: bool) -> list[Repeat]:
        """Of trial 0."""
        return [item for item in super().early(may_be_wasted=False) if item[0].is_hand_made]


class Before(Conductor):
    """The conductor without likely repeats."""

    def __init__(self, *given: object, **settings: object) -> None:
        super().__init__(*given, **settings)  # type: ignore[arg-type]
        self.repeats = HandMadeAlone(self.record, self.spec)

    def _judge_repeats(self) -> None:
        """No repeat is stopped."""


@dataclass
class Played:
    """One search in made-up time.

    Attributes:
        searched, ended: when the last search trial and the last of all ended, in epochs of one slot.
        busy: time of all epochs; waiting: slot time without work before the last search trial ended.
        early: repeats that began before the search had ended; unneeded, wasted: those left out, and their epochs.
    """

    slots: int
    searched: float = 0.0
    ended: float = 0.0
    busy: float = 0.0
    waiting: float = 0.0
    unneeded: int = 0
    wasted: int = 0
    early: int = 0
    winner: str = ""

    @property
    def idle(self) -> float:
        """Slot time without work, from the first trial to the last."""
        return self.slots * self.ended - self.busy


@dataclass
class Clock:
    """Who runs, and when each ends its next epoch."""

    seed: int
    now: float = 0.0
    due: list[tuple[float, str]] = field(default_factory=list)

    def run(self, label: str, epoch: int) -> float:
        """One more epoch; how long it takes."""
        words = [self.seed, epoch, *label.encode()]
        lasts = float(np.random.default_rng(words).uniform(0.9, 1.1))
        heapq.heappush(self.due, (self.now + lasts, label))
        return lasts


def play(of: Family, kind: type[Conductor], *, slots: int) -> Played:
    """One search to its end."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "search.json").write_text("{}")
        journal = Journal(folder)
        conductor = kind(of.spec, journal=journal, record=read_search(folder), slots=slots, split="common")
        rungs = Rungs(of.spec, conductor)
        played, clock, known = Played(slots), Clock(of.spec.seed), dict[str, Training]()
        while not conductor.finished:
            while isinstance(job := conductor.next(), PlannedTrial):
                handle = SimpleNamespace(config={"trial": job.label, "role": job.role})
                if job.label not in known:
                    rungs.on_trial_add(None, handle)
                    drawn = replace(of, spec=replace(of.spec, seed=job.config.seed))
                    known[job.label] = begin(drawn, job.config.to_dict(), label=job.label)
                    played.early += job.role == "confirm" and not conductor.has_searched
                played.busy += clock.run(job.label, known[job.label].epoch)
            if not conductor.finished:
                _step(conductor, rungs, clock, known, played)
        record, spec = conductor.record, of.spec
        choice = select(record, spec, val_share=0.2)
        played.unneeded, played.wasted = len(choice.unneeded), sum(len(trial.epochs) for trial in choice.unneeded)
        played.ended, played.winner = clock.now, choice.winner.label
        journal.close()
    return played


def _step(conductor: Conductor, rungs: Rungs, clock: Clock, known: dict[str, Training], played: Played) -> None:
    """The next epoch that ends."""
    free, before = played.slots - len(clock.due), clock.now
    clock.now, label = heapq.heappop(clock.due)
    played.waiting += 0.0 if conductor.has_searched else free * (clock.now - before)
    training, role = known[label], conductor.record.trials[label].role
    row, handle = training.step(), SimpleNamespace(config={"trial": label, "role": role})
    paused = conductor.pauses(label, row)
    stopped = rungs.on_trial_result(None, handle, row) == TrialScheduler.STOP
    conductor.epoch(label, row)
    if training.stop or stopped:
        rungs.on_trial_complete(None, handle, row)
        reason = ENDINGS[training.stop] if training.stop else rungs.reasons[label]
        conductor.end(label, state="complete" if training.stop else "pruned", reason=reason)
    elif not paused:
        played.busy += clock.run(label, training.epoch)
    if role == "search":
        played.searched = clock.now


def row(name: str, slots: int, pairs: Iterable[tuple[Played, Played]]) -> dict[str, str]:
    """Before and after, means over seeds."""
    before, after = zip(*pairs, strict=True)

    def pair(what: str) -> str:
        return " / ".join(f"{statistics.fmean(getattr(item, what) for item in items):.1f}" for items in (before, after))

    gains = [a.ended / b.ended for b, a in zip(before, after, strict=True)]
    return {
        "scheduler": name,
        "slots": str(slots),
        "idle slot time": pair("idle"),
        "of it while the search ran": pair("waiting"),
        "all ended after": pair("ended"),
        "ratio": f"{statistics.fmean(gains):.3f}",
        "search ended after": pair("searched"),
        "early repeats": pair("early"),
        "unneeded repeats": pair("unneeded"),
        "their epochs": pair("wasted"),
        "same winner": f"{sum(b.winner == a.winner for b, a in zip(before, after, strict=True))} of {len(before)}",
    }


def specs(name: str, *, seeds: int) -> Iterable[Family]:
    """A search per seed, the families in turn."""
    for seed in range(seeds):
        of = family(FAMILIES[seed % len(FAMILIES)])
        settings = {**SETTINGS[name], "seed": seed, "trials": 24, "confirm": 3}
        yield replace(of, spec=of.spec.override(settings, {}))


def played_row(case: tuple[str, int], seeds: int) -> dict[str, str]:
    """One row of the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    name, slots = case
    searches = specs(name, seeds=seeds)
    return row(name, slots, [(play(of, Before, slots=slots), play(of, Conductor, slots=slots)) for of in searches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    found = circumstances()
    with ProcessPoolExecutor(flags.workers, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(played_row, seeds=flags.seeds), CASES))
    write("idle_end", rows, found)


if __name__ == "__main__":
    main()
