"""Promotion-type ASHA against a statement of the rule in full, and the conductor that follows it, killed and resumed."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from tests.support.searches import make_conductor, make_folder, make_rows, make_spec
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.promotion import Promotion
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import proposal_seed


@dataclass
class Played:
    """A search of made-up curves on some slots, played to its end; the rule is stated anew before every step."""

    dice: random.Random
    rungs: tuple[int, ...]
    factor: float
    trials: int
    slots: int
    budget: int
    running: dict[str, int] = field(default_factory=dict)  # label -> epochs
    paused: dict[str, int] = field(default_factory=dict)
    reached: dict[int, list[tuple[float, int, str]]] = field(default_factory=dict)  # rung -> (value, number, label)
    best: dict[str, float] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logic = Promotion(self.rungs, reduction_factor=self.factor, trials=self.trials)
        self.reached = {rung: [] for rung in self.rungs}
        self.hopeless: set[str] = set()

    def may_still_come(self, rung: int) -> int:
        """Trials that are not at the rung yet and, if all others went badly, could get there."""
        position = self.rungs.index(rung)
        count = self.trials - len(self.best)
        count += sum(epochs < rung for epochs in self.running.values())
        for lower in self.rungs[:position]:
            count += sum(self.could_go_on(label) for label, epochs in self.paused.items() if epochs == lower)
        return count

    def could_go_on(self, label: str) -> bool:
        rung = self.paused[label]
        at_most = len(self.reached[rung]) + self.may_still_come(rung)
        return self.place(label, rung) < max(1, math.floor(at_most / self.factor))

    def place(self, label: str, rung: int) -> int:
        return [name for _, _, name in sorted(self.reached[rung])].index(label)

    def stated(self) -> str | None:
        """Who goes on: of the highest rung, the best paused one within the best 1 / factor of all that reached it."""
        for rung in reversed(self.rungs):
            size = len(self.reached[rung])
            allowed = math.floor(size / self.factor) or (0 if self.may_still_come(rung) else 1)
            for _, _, label in sorted(self.reached[rung])[:allowed]:
                if self.paused.get(label) == rung:
                    return label
        return None

    def play(self) -> None:
        while True:
            candidate = self.logic.candidate()
            assert candidate == self.stated()
            self.check_hopeless()
            is_free = len(self.running) < self.slots and (not self.running or self.dice.random() < 0.6)  # slots come and go
            if is_free and candidate:
                self.logic.promote(candidate)
                self.running[candidate] = self.paused.pop(candidate)
            elif is_free and len(self.best) < self.trials:
                self.begin()
            elif self.running:
                self.epoch(self.dice.choice(sorted(self.running)))
            else:
                return

    def begin(self) -> None:
        label = str(len(self.best))
        self.best[label], self.running[label] = math.inf, 0
        self.logic.begin(label)

    def epoch(self, label: str) -> None:
        self.running[label] += 1
        epoch, self.best[label] = self.running[label], min(self.best[label], float(self.dice.randrange(12)))
        fails = self.dice.random() < 0.02
        ends = epoch == self.budget or self.dice.random() < 0.03
        if fails:
            self.leave(label, "failed")
            return
        pauses = self.logic.report(label, epoch, self.best[label], ends=ends)
        if epoch in self.rungs:
            self.reached[epoch].append((self.best[label], int(label), label))
        if ends:
            self.leave(label, "complete")
        elif epoch in self.rungs:
            del self.running[label]
            self.paused[label] = epoch
            assert pauses == (self.stated() != label)  # it goes on at once where it would be the next anyway
            if not pauses:
                self.running[label] = self.paused.pop(label)

    def leave(self, label: str, state: str) -> None:
        del self.running[label]
        self.ended[label] = state
        self.logic.end(label)

    def check_hopeless(self) -> None:
        """They are those of the rule, and what was hopeless once never goes on, whatever comes."""
        hopeless = set(self.logic.hopeless())
        assert hopeless == {label for label in self.paused if not self.could_go_on(label)}
        self.hopeless |= hopeless
        assert not self.hopeless & set(self.running)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rungs=st.sampled_from([(), (1,), (2, 5), (1, 3, 9), (1, 2, 3)]),
    factor=st.sampled_from([1.5, 2.0, 3.0, 4.0]),
    trials=st.integers(1, 30),
    slots=st.integers(1, 4),
)
def test_every_step_is_that_of_the_rule(seed: int, rungs: tuple[int, ...], factor: float, trials: int, slots: int) -> None:
    played = Played(random.Random(seed), rungs, factor, trials, slots, budget=12)
    played.play()
    assert set(played.paused) == set(played.logic.hopeless())  # none waits for ever
    assert len(played.best) == trials
    if "failed" not in played.ended.values():
        assert "complete" in played.ended.values()


def test_by_hand() -> None:
    """Rungs at 1 and 3, the best third goes on, seven trials."""
    logic = Promotion((1, 3), reduction_factor=3, trials=7)
    for number, value in enumerate([0.9, 0.5]):
        logic.begin(str(number))
        assert logic.report(str(number), 1, value)  # a third of one or two is none
    assert logic.candidate() is None and logic.hopeless() == []
    logic.begin("2")
    assert logic.report("2", 1, 0.7)
    assert logic.candidate() == "1" and logic.hopeless() == ["0"]  # of seven, two go on at most
    logic.promote("1")
    assert not logic.report("1", 2, 0.5)
    for number, value in ((3, 0.6), (4, 0.8)):
        logic.begin(str(number))
        assert logic.report(str(number), 1, value)
    assert logic.candidate() is None
    logic.begin("5")
    assert not logic.report("5", 1, 0.1)  # the second of six goes on, and that is this one: it does not even pause
    assert logic.candidate() is None


def bowl(config: Mapping[str, Any]) -> list[float]:
    """Made-up losses that cross: a low learning rate starts badly and ends well."""
    loss = 0.5 + 0.1 * (math.log10(config["lr"]) + 4) ** 2 + (config["dropout"] - 0.4) ** 2
    return [loss + (1.0 - 40 * config["lr"] ** 0.5) / epoch for epoch in range(1, 13)]


def small(**settings: Any) -> SearchSpec:
    return make_spec(**{"trials": 12, "epochs": 12, "grace_period": 1, "scheduler": "promote", "confirm": 0, **settings})


def step(conductor: Conductor, label: str, *, half: bool = False) -> None:
    """The next epoch of a running trial; `half`: the driver dies before the note of what follows from it."""
    trial = conductor.record.trials[label]
    rows = make_rows(bowl(trial.config), stop="budget")
    row = rows[len(trial.epochs)]
    pauses = conductor.pauses(label, row)
    if half:
        conductor._note_rung = lambda trial: None  # type: ignore[method-assign]
    conductor.epoch(label, row)
    if row["stop"]:
        conductor.end(label, state="complete", reason="ran its full budget")
    else:
        assert pauses == (trial.state == "paused") or half


def play(conductor: Conductor, *, steps: int = 10**6) -> list[str]:
    """One epoch of each live trial in turn; what is left of `steps` is none. Returns the trials handed out."""
    handed = []
    while True:
        while isinstance(planned := conductor.next(), PlannedTrial):
            handed.append(planned.label)
        if planned == "finished":
            return handed
        for trial in conductor.live:
            if not steps:
                return handed
            steps -= 1
            step(conductor, trial.label)


def facts(record: SearchRecord) -> list[tuple[Any, ...]]:
    return [(t.label, t.state, t.reason, t.params, t.promotions, len(t.epochs)) for t in record.search_trials]


def test_a_search_with_promotion_ends_with_every_trial_complete_or_pruned(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), small(), slots=2)
    play(conductor)
    record = read_search(tmp_path)
    states = [trial.state for trial in record.search_trials]
    assert len(states) == 12 and set(states) == {"complete", "pruned"}
    pruned = [trial for trial in record.search_trials if trial.state == "pruned"]
    assert {trial.reason for trial in pruned} == {"not promoted at epoch 1", "not promoted at epoch 3"}
    assert [trial.promotions for trial in record.search_trials if trial.state == "complete"] == [[1, 3, 9]]
    told = [(trial.state, trial.value) for trial in conductor.search.study.trials]
    assert told == [(TrialState[t.state.upper()], t.objective) for t in record.search_trials]


@pytest.mark.parametrize("half", [False, True])
def test_killed_and_resumed_equals_uninterrupted(half: bool, tmp_path: Path) -> None:
    """One slot; the driver dies after every few epochs, half of them between an epoch and the note that follows it."""
    play(make_conductor(make_folder(tmp_path / "whole"), small()))
    folder, deaths = make_folder(tmp_path / "killed"), 0
    while True:
        conductor = make_conductor(folder, small())
        play(conductor, steps=2)
        if conductor.finished:
            break
        deaths += 1
        if half and conductor.live:
            step(conductor, conductor.live[0].label, half=True)
    assert deaths > 5
    assert facts(read_search(folder)) == facts(read_search(tmp_path / "whole"))


def test_a_paused_trial_is_running_for_optuna_and_pruned_for_proposals(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), small(startup_trials=1))
    play(conductor, steps=3)
    paused = [trial.number for trial in conductor.record.search_trials if trial.state == "paused"]
    assert paused and all(conductor.search.study.trials[number].state == TrialState.RUNNING for number in paused)
    proposed = conductor.search.ask()[1]
    again, other = make_conductor(tmp_path, small(startup_trials=1)), make_conductor(tmp_path, small(startup_trials=1))
    assert again.search.ask()[1] == proposed
    other.search._paused.clear()  # as Optuna sees them by itself: nothing has been learned yet
    assert other.search.ask()[1] != proposed


def test_one_that_died_as_it_paused_and_reports_on_waits_at_its_next_rung() -> None:
    logic = Promotion((1, 2), reduction_factor=2, trials=9)
    for label, value in (("0", 0.4), ("1", 0.5)):
        logic.begin(label)
        assert logic.report(label, 1, value)
    assert logic.report("0", 2, 0.3)  # Tune began it again, since its process was lost as it paused
    for label in ("2", "3"):
        logic.begin(label)
        logic.report(label, 1, 0.9)
    assert logic.candidate() == "1" and logic.is_paused("0")
    logic.end("0")
    logic.promote("1")
    assert logic.candidate() is None


def stated_proposal(conductor: Conductor) -> dict[str, Any]:
    """The next proposal, from a study made anew in which paused trials are PRUNED, its space gathered from all trials."""
    search, number = conductor.search, len(conductor.search.study.trials)
    seed = proposal_seed(search.spec, number)
    view = optuna.create_study(
        sampler=TPESampler(seed=seed, n_startup_trials=2, multivariate=True, group=True, constant_liar=True)
    )
    for trial in search.study.trials:
        record = conductor.record.trials[str(trial.number)]
        if record.state == "paused":
            trial.state, trial.datetime_complete = TrialState.PRUNED, trial.datetime_start
            trial.value = record.score
        view.add_trial(trial)
    proposed = view.ask()
    search.spec.suggest(proposed)
    return proposed.params


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("condition", ["", "\n    when: {dropout: [0.3]}"])
def test_a_proposal_is_that_of_a_study_in_which_paused_trials_are_pruned(condition: str, tmp_path: Path) -> None:
    space = "  weight_decay: {low: 1.0e-6, high: 1.0e-1, log: true}\n  dropout: {choices: [0.1, 0.3]}\n"
    space += f"  lr:\n    low: 1.0e-5\n    high: 1.0e-2\n    log: true{condition}\n"
    start = "start:\n  - {dropout: 0.3, lr: 1.0e-3, weight_decay: 1.0e-4}\n"
    text = f"startup_trials: 2\nscheduler: promote\nspace:\n{space}{start}"
    spec = SearchSpec.from_text(text).override({"trials": 24, "epochs": 12, "grace_period": 1, "confirm": 0}, {})
    conductor, paused = make_conductor(make_folder(tmp_path), spec, slots=3), 0
    ask = conductor.search.ask

    def checked() -> Any:
        nonlocal paused
        paused += any(trial.state == "paused" for trial in conductor.record.search_trials)
        stated, asked = stated_proposal(conductor) if conductor.record.trials else None, ask()
        assert stated in (None, asked[1])
        return asked

    conductor.search.ask = checked  # type: ignore[method-assign]
    play(conductor)
    assert paused > 10


def test_what_is_paused_when_the_time_is_used_up_ends_as_pruned(tmp_path: Path) -> None:
    play(make_conductor(make_folder(tmp_path), small(), slots=2), steps=9)
    late = make_conductor(tmp_path, small(), slots=2, deadline=1.0)
    paused = [trial.label for trial in late.record.search_trials if trial.state == "paused"]
    assert paused and not isinstance(late.next(), str)  # one is still in training
    ended = [late.record.trials[label] for label in paused]
    assert all(t.state == "pruned" and t.reason.endswith("when the time budget was used up") for t in ended)
    assert sorted(late.given_up) == sorted(paused) and all(trial.objective is not None for trial in ended)


def test_a_share_of_the_proposals_stays_random(tmp_path: Path) -> None:
    def drawn(**settings: Any) -> list[Any]:
        spec = small(trials=8, startup_trials=2, scheduler="none", **settings)
        conductor = make_conductor(make_folder(tmp_path / str(len(list(tmp_path.iterdir())))), spec)
        play(conductor)
        return [trial.params for trial in conductor.record.search_trials]

    tpe, mixed, chance = drawn(), drawn(random_share=0.5), drawn(sampler="random")
    same = [a == b for a, b in zip(mixed, chance, strict=True)]
    assert same == [True, True, False, True, False, True, False, True]
    assert tpe[:2] == mixed[:2] and tpe[3] != mixed[3]
