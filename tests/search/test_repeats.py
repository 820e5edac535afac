"""Repeats of the confirmation that begin while the last search trials run: order, budgets, those that turn out unneeded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.support.searches import make_conductor, make_folder, make_record, make_repeat, make_rows, make_spec, make_trial
from tune_btxrd.errors import ResultError
from tune_btxrd.results.summary import selection_lines
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.pace import is_finished, repeats_wanted
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.repeats import sure
from tune_btxrd.search.selection.winner import ranking, select, wanted_repeats
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.tables import trials_table

PLAIN: dict[str, Any] = {"recommend": "best", "confirm": 2, "repeats": 2, "scheduler": "none"}


def handed(conductor: Conductor) -> list[str]:
    """The labels of all that is handed out now."""
    found = []
    while isinstance(job := conductor.next(), PlannedTrial):
        found.append(job.label)
    return found


def tell(conductor: Conductor, label: str, *losses: float, ends: bool = True) -> None:
    """More epochs of a trial that runs, and its end."""
    before = [row["val_loss"] for row in conductor.record.trials[label].epochs]
    for row in make_rows([*before, *losses])[len(before) :]:
        conductor.pauses(label, row)
        conductor.epoch(label, row)
    if ends:
        conductor.end(label, state="complete", reason="ran its full budget")


def search_of(
    folder: Path, spec: SearchSpec, losses: Sequence[float | None], *, slots: int = 16, **budget: Any
) -> Conductor:
    """A search of which trial k ended with losses[k]; those with None still run, after one epoch of 0.6."""
    conductor = make_conductor(make_folder(folder), spec, slots=len(losses), **budget)
    assert handed(conductor) == [str(number) for number in range(len(losses))]
    for number, loss in enumerate(losses):
        tell(conductor, str(number), 0.6 if loss is None else loss, ends=loss is not None)
    conductor.slots = slots
    return conductor


def test_the_hand_made_config_comes_first_then_sure_ones_then_likely_ones(tmp_path: Path) -> None:
    spec = make_spec(trials=4, **PLAIN | {"confirm": 3})
    conductor = search_of(tmp_path, spec, [0.9, 0.5, 0.4, None])
    # trial 3 can overtake all three, so that two of them are sure: 2 and 1; trial 0, which is the third, is known anyway
    assert handed(conductor) == ["0r1", "0r2", "2r1", "2r2", "1r1", "1r2"]
    assert [trial.number for trial in sure(ranking(conductor.record, spec), conductor.record, spec)] == [2, 1]


def test_the_most_likely_config_first_with_all_its_repeats(tmp_path: Path) -> None:
    conductor = search_of(tmp_path, make_spec(trials=6, **PLAIN), [0.9, 0.5, 0.4, 0.8, None, None])
    assert not sure(ranking(conductor.record, conductor.spec), conductor.record, conductor.spec)
    conductor.slots = 2 + 3
    assert handed(conductor) == ["0r1", "0r2", "2r1"]
    conductor.slots = 16
    assert handed(conductor) == ["2r2", "1r1", "1r2"]


def test_what_a_model_orders_is_sure_only_where_all_are_confirmed() -> None:
    trials = [make_trial(number, [0.9 - number / 100]) for number in range(8)]
    late = make_trial(8, [0.3], state="running", ended=None)
    for confirm, certain in ((8, []), (9, [7, 6, 5, 4, 3, 2, 1, 0])):
        spec = make_spec(trials=9, confirm=confirm)
        record = make_record(Path(), *trials, late)
        plain = replace(ranking(record, spec), candidates=(late, *reversed(trials)))
        assert [trial.number for trial in sure(plain, record, spec)] == certain
    few, spec = make_record(Path(), *trials[:3], late), make_spec(trials=9, confirm=2)
    assert [trial.number for trial in sure(ranking(few, spec), few, spec)] == [2]  # too few for a model: by best score


@pytest.mark.parametrize("settings", [{"scheduler": "promote"}, {"scheduler": "asha", "folds_per_trial": 3}])
def test_a_running_trial_is_likely_too_where_the_rule_counts_it(settings: dict[str, Any], tmp_path: Path) -> None:
    spec = make_spec(trials=3, confirm=1, repeats=2, grace_period=2, **settings)
    conductor = search_of(tmp_path, spec, [0.9, 0.8, None])
    assert handed(conductor) == ["0r1", "0r2", "2r1", "2r2"]
    assert conductor._spent == 3 * spec.folds_per_trial  # and no epoch of a repeat is one of the search
    tell(conductor, "2r1", 0.5)
    assert conductor._spent == 3 * spec.folds_per_trial


def test_a_trial_that_may_go_on_takes_the_next_free_slot_and_repeats_wait(tmp_path: Path) -> None:
    spec = make_spec(trials=3, epochs=4, grace_period=1, reduction_factor=3, scheduler="promote", confirm=1, repeats=3)
    conductor = make_conductor(make_folder(tmp_path), spec, slots=3)
    assert handed(conductor) == ["0", "1", "2"]
    tell(conductor, "0", 0.5, ends=False)
    tell(conductor, "1", 0.6, ends=False)
    assert handed(conductor) == ["0r1", "0r2"] and conductor.record.trials["0"].state == "paused"
    tell(conductor, "2", 0.7, ends=False)  # the rung is whole: trial 0 goes on, before any other repeat
    assert handed(conductor) == ["0"] and conductor.next() == "wait"
    tell(conductor, "0r1", 0.5)
    assert handed(conductor) == ["0r3"]


def test_an_unneeded_repeat_is_stopped_said_and_counts_for_nothing(tmp_path: Path) -> None:
    spec = make_spec(trials=4, **PLAIN)
    conductor = search_of(tmp_path, spec, [0.9, 0.5, 0.7, None])
    assert handed(conductor) == ["0r1", "0r2", "1r1", "1r2", "2r1", "2r2"]
    tell(conductor, "2r1", 0.05, 0.04)  # better than all others, and not asked for
    tell(conductor, "2r2", 0.05, ends=False)
    tell(conductor, "3", 0.45)
    assert handed(conductor) == ["3r1", "3r2"]
    why = "not needed after all: trial 2 is not among those confirmed"
    assert {trial.label: trial.unneeded for trial in conductor.record.confirmations if trial.unneeded} == dict.fromkeys(
        ("2r1", "2r2"), why
    )
    conductor.end("2r2", state="pruned", reason=why)  # as the scheduler does after its next epoch
    for label in ("0r1", "0r2", "1r1", "1r2", "3r1", "3r2"):
        tell(conductor, label, 0.3 + int(label[0]) / 100 + int(label[2]) / 1000)
    assert conductor.next() == "finished"
    record = read_search(tmp_path)
    assert is_finished(record, spec) and repeats_wanted(record, spec) == 8
    chosen = select(record, spec, val_share=0.2)
    assert chosen.winner.label == "0" and [trial.label for trial in chosen.unneeded] == ["2r1", "2r2"]
    assert "2 early repeats turned out unneeded and count for nothing (trial 2r1, 2r2): 3 epochs." in selection_lines(
        chosen, spec
    )
    without = SearchRecord(folder=tmp_path, settings={}, sessions=[], trials=dict(record.trials))
    del without.trials["2r1"], without.trials["2r2"]
    plain = select(without, spec, val_share=0.2)
    assert [vars(item) for item in chosen.standings] == [vars(item) for item in plain.standings]
    reasons = trials_table(record).set_index("trial")["reason"]
    assert reasons["2r1"] == f"ran its full budget; {why}" and reasons["2r2"] == why


def test_a_repeat_beyond_the_one_after_which_a_config_is_dropped_changes_no_standing() -> None:
    spec = make_spec(trials=9, confirm=2, repeats=3)
    trials = [make_trial(number, [0.7 - number / 100], params={"lr": 1e-3, "dropout": number / 20}) for number in range(9)]
    confirmed = [trial.number for trial in ranking(make_record(Path(), *trials), spec).confirmed]
    best, worse = [number for number in confirmed if number][:2]
    base = {0: 0.6, best: 0.3, worse: 0.9}
    repeats = [make_repeat(of, k, [loss + k / 1000 + of / 9e4 * k]) for of, loss in base.items() for k in (1, 2, 3)]
    whole = select(make_record(Path(), *trials, *repeats), spec, val_share=0.2)
    last = f"{worse}r3"
    assert [trial.label for trial in whole.unneeded] == [last]
    fewer = select(make_record(Path(), *trials, *(t for t in repeats if t.label != last)), spec, val_share=0.2)
    assert [(item.trial.label, item.scores, item.decisive) for item in whole.standings] == [
        (item.trial.label, item.scores, item.decisive) for item in fewer.standings
    ]


def test_one_that_a_longer_search_asks_for_after_all_is_repeated_to_its_end(tmp_path: Path) -> None:
    spec = make_spec(trials=3, **PLAIN | {"confirm": 1})
    conductor = search_of(tmp_path, spec, [0.9, 0.5, None])
    assert handed(conductor) == ["0r1", "0r2", "1r1", "1r2"]
    tell(conductor, "1r1", 0.5)
    tell(conductor, "1r2", 0.5, ends=False)
    tell(conductor, "2", 0.4)
    assert handed(conductor) == ["2r1", "2r2"]
    conductor.end("1r2", state="pruned", reason=conductor.record.trials["1r2"].unneeded)
    for label in ("0r1", "0r2", "2r1", "2r2"):
        tell(conductor, label, 0.7)
    assert conductor.next() == "finished" and conductor.record.trials["1r2"].state == "pruned"
    conductor.close()
    assert conductor.confirmation.study.trials[3].state == TrialState.PRUNED
    both = make_spec(trials=3, **PLAIN | {"confirm": 2})  # a resumed search that confirms one more
    again = make_conductor(tmp_path, both, slots=4)
    assert not is_finished(again.record, both)
    assert handed(again) == ["1r2"]
    assert [(again.record.trials[label].unneeded, again.record.trials[label].state) for label in ("1r1", "1r2")] == [
        ("", "complete"),
        ("", "running"),
    ]
    assert [again.epoch("1r2", row) for row in make_rows([0.5, 0.45])] == [False, True]  # it begins anew, or goes on
    again.end("1r2", state="complete", reason="ran its full budget")
    assert again.next() == "finished" and is_finished(read_search(tmp_path), both)
    assert not select(again.record, both, val_share=0.2).unneeded
    assert again.confirmation.study.trials[3].state == TrialState.COMPLETE


def test_a_killed_search_goes_on_with_its_early_repeats_and_ends_those_that_it_no_longer_needs(tmp_path: Path) -> None:
    spec = make_spec(trials=3, **PLAIN | {"confirm": 1})
    first = search_of(tmp_path, spec, [0.9, 0.5, None])
    assert handed(first) == ["0r1", "0r2", "1r1", "1r2"]
    again = make_conductor(tmp_path, spec, slots=3)
    assert handed(again) == ["2", "0r1", "0r2"]  # the search first, then what had begun
    tell(again, "2", 0.4)
    assert handed(again) == ["2r1"] and again.given_up == ["1r1", "1r2"]
    assert {again.record.trials[label].state for label in ("1r1", "1r2")} == {"pruned"}
    late = make_conductor(tmp_path, spec, slots=4)
    assert handed(late) == ["0r1", "0r2", "2r1", "2r2"] and not late.given_up


def test_one_that_was_not_needed_waits_for_the_end_of_a_longer_search(tmp_path: Path) -> None:
    settings = PLAIN | {"confirm": 1}
    first = search_of(tmp_path, make_spec(trials=3, **settings), [0.9, 0.5, None])
    assert handed(first)[2:] == ["1r1", "1r2"]
    tell(first, "2", 0.4)
    assert handed(first) == ["2r1", "2r2"] and first.record.trials["1r1"].unneeded
    longer = make_conductor(tmp_path, make_spec(trials=4, **settings), slots=16)
    assert handed(longer) == ["3", "0r1", "0r2", "2r1", "2r2"] and not longer.given_up
    tell(longer, "3", 0.8)
    assert handed(longer) == [] and longer.given_up == ["1r1", "1r2"]


def test_a_repeat_that_was_stopped_is_not_done_where_it_is_needed() -> None:
    """No config is dropped before its repeats of a round have ended by themselves."""
    spec = make_spec(trials=9, confirm=2, repeats=4)
    trials = [make_trial(number, [0.7 - number / 100], params={"lr": 1e-3, "dropout": number / 20}) for number in range(9)]
    best, worse, _ = (trial.number for trial in ranking(make_record(Path(), *trials), spec).confirmed)
    repeats = [make_repeat(of, k, [loss]) for of, loss in ((0, 0.6), (best, 0.3), (worse, 0.9)) for k in (1, 2, 3)]
    whole = make_record(Path(), *trials, *repeats)
    assert (worse, 3) not in [(trial.number, k) for trial, k in wanted_repeats(whole, spec)]
    whole.trials[f"{worse}r1"].state = "pruned"
    assert [k for trial, k in wanted_repeats(whole, spec) if trial.number == worse] == [1, 2, 3, 4]


def test_an_unneeded_repeat_that_loses_its_slot_ends(tmp_path: Path) -> None:
    conductor = search_of(tmp_path, make_spec(trials=3, **PLAIN | {"confirm": 1}), [0.9, 0.5, None])
    assert handed(conductor) == ["0r1", "0r2", "1r1", "1r2"]
    tell(conductor, "2", 0.4)
    assert handed(conductor) == ["2r1", "2r2"] and not conductor.given_up
    assert conductor.give_back("1r1")
    assert handed(conductor) == [] and conductor.given_up == ["1r1"] and conductor.next() == "wait"
    conductor.take_back()
    assert handed(conductor) == ["0r1", "0r2", "2r1", "2r2"] and conductor.given_up == ["1r1", "1r2"]


@pytest.mark.parametrize(
    ("budget", "labels"), [(19, ["0r1", "0r2"]), (20, ["0r1", "0r2", "1r1"]), (24, ["0r1", "0r2", "1r1", "1r2"])]
)
def test_an_epoch_budget_holds_even_if_all_likely_repeats_are_unneeded(
    budget: int, labels: list[str], tmp_path: Path
) -> None:
    """Spent: 13, and trial 12 may take 3 more; each likely repeat may take 4."""
    spec = make_spec(trials=13, **PLAIN | {"confirm": 1})
    losses = [0.9, 0.5, *[0.8] * 10, None]
    assert handed(search_of(tmp_path, spec, losses, epoch_budget=budget)) == labels


def test_a_sure_repeat_needs_no_epochs_to_spare(tmp_path: Path) -> None:
    spec = make_spec(trials=3, **PLAIN)
    assert handed(search_of(tmp_path, spec, [0.9, 0.5, None], epoch_budget=4)) == ["0r1", "0r2", "1r1", "1r2"]


def test_after_the_deadline_no_search_trial_is_to_come_and_repeats_go_on(tmp_path: Path) -> None:
    spec = make_spec(trials=9, **PLAIN)
    conductor = search_of(tmp_path, spec, [0.9, 0.5, None], slots=3)
    assert handed(conductor) == ["3", "4"]  # while there is time, search trials are to come
    late = make_conductor(tmp_path, spec, slots=16, deadline=1.0)
    assert handed(late) == ["2", "3", "4", "0r1", "0r2", "1r1", "1r2"]


def test_without_a_candidate_there_is_none_to_repeat_but_the_hand_made_config(tmp_path: Path) -> None:
    conductor = search_of(tmp_path, make_spec(trials=3, **PLAIN), [None, None, None])
    assert handed(conductor) == ["0r1", "0r2"]
    for label in ("0", "1", "2"):
        conductor.end(label, state="pruned", reason="stopped by ASHA at epoch 1")
    with pytest.raises(ResultError, match="ran to its budget or patience"):
        conductor.next()


def test_no_confirmation_no_early_repeat(tmp_path: Path) -> None:
    assert handed(search_of(tmp_path, make_spec(trials=3, confirm=0), [0.9, 0.5, None])) == []


def test_a_repeat_is_worth_a_verdict_and_a_search_trial_is_not(tmp_path: Path) -> None:
    conductor = search_of(tmp_path, make_spec(trials=2, confirm=0), [0.9, None])
    conductor.journal.write("unneeded", trial="0", reason="not needed")
    with pytest.raises(ResultError, match="calls trial 0 unneeded, which is no repeat"):
        read_search(tmp_path)
