"""How large a confirmation is, who is repeated no further, and how repeats decide."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.searches import (
    make_conductor,
    make_folder,
    make_record,
    make_repeat,
    make_rows,
    make_spec,
    make_trial,
    run_all,
)
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.selection.confirmation import ERROR, Size, fitting_size, losers, smallest_total
from tune_btxrd.search.selection.winner import ranking, select, wanted_repeats

HERE = Path()


@pytest.mark.parametrize(
    ("total", "size"),
    [(1080, (3, 3)), (1079, (2, 3)), (810, (2, 3)), (809, (2, 2)), (540, (2, 2)), (539, (0, 3)), (10, (0, 3))],
)
def test_a_confirmation_takes_at_most_a_third_of_the_epochs(total: int, size: tuple[int, int]) -> None:
    spec = make_spec(epochs=30, confirm=3, repeats=3)
    found = fitting_size(spec, total)
    assert (found.configs, found.repeats) == size and found.epochs(spec) <= total / 3
    assert smallest_total(spec) == 540


def test_a_confirmation_never_grows_beyond_that_of_the_space() -> None:
    assert fitting_size(make_spec(confirm=5, repeats=4), 10**6) == Size(configs=5, repeats=4)
    assert fitting_size(make_spec(epochs=30, confirm=5, repeats=4), 1080) == Size(configs=3, repeats=3)
    assert fitting_size(make_spec(confirm=1, repeats=2), 10**6) == Size(configs=1, repeats=2)


def test_a_clear_loser_by_a_hand_computed_t() -> None:

    scores = {1: [0.50, 0.52], 2: [0.51, 0.51], 3: [0.90, 0.92]}
    # rows 0.51, 0.51, 0.91; columns 0.636667, 0.65; middle 0.643333
    # residuals: -0.003333, 0.003333; 0.006667, -0.006667; -0.003333, 0.003333 -> sum of squares 1.3333e-4, freedom 2
    # s^2 = 6.667e-5; limit = t(1 - 0.05 / 2, 2) * sqrt(2 * s^2 / 2) = 4.302653 * 0.008165 = 0.035131
    assert losers(scores, looks=1) == {3}
    assert losers({**scores, 3: [0.53, 0.54]}, looks=1) == set()  # 0.025 behind, limit 0.0304
    assert losers({1: [0.5], 2: [0.9]}, looks=1) == set() and losers({1: [0.5, 0.5]}, looks=1) == set()


def test_the_best_config_is_seldom_dropped() -> None:
    """500 searches of three configs that are nearly as good as each other, where an error is easiest."""
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(500):
        table = np.array([0.0, 0.05, 0.05])[:, None] + generator.normal(size=(3, 3)) + generator.normal(size=3)
        wrong += 0 in losers({k: row[:2].tolist() for k, row in enumerate(table)}, looks=1)
    assert wrong / 500 <= ERROR + 0.02


def confirmed(*means: float, last: dict[int, float] | None = None) -> SearchRecord:
    """Trial 0 (hand-made) and others with two repeats each around these means, and a third for those in `last`."""
    repeats = [make_repeat(n, r, [mean + 0.001 * r]) for n, mean in enumerate(means) for r in (1, 2)]
    repeats += [make_repeat(n, 3, [value]) for n, value in (last or {}).items()]
    return make_record(HERE, *(make_trial(n, [0.3 + n / 100 if n else 0.99]) for n in range(len(means))), *repeats)


def test_a_clear_loser_is_repeated_no_further_and_cannot_win() -> None:
    spec = make_spec(confirm=3, repeats=3)
    record = confirmed(0.7, 0.5, 0.51, 0.9)
    record.trials["2r2"] = make_repeat(2, 2, [0.520])
    wanted = [(trial.number, repeat) for trial, repeat in wanted_repeats(record, spec)]
    assert [n for n, repeat in wanted if repeat == 3] == [1, 2, 0]
    done = confirmed(0.7, 0.5, 0.51, 0.9, last={0: 0.7, 1: 0.5, 2: 0.51})
    done.trials["2r2"] = make_repeat(2, 2, [0.520])
    selection = select(done, spec, val_share=0.2)
    assert selection.winner.number == 1 and [i.trial.number for i in selection.standings if i.dropped] == [3]
    assert len(selection.standings[-1].scores) == 2 and selection.standings[-1].trial.number == 3


def test_no_look_before_all_repeats_of_a_round_have_ended_and_none_by_the_plain_rule() -> None:
    record = confirmed(0.7, 0.5, 0.51, 0.9)
    assert len(wanted_repeats(record, make_spec(confirm=3, repeats=3, recommend="best"))) == 12
    record.trials["1r2"].state = "running"
    assert len(wanted_repeats(record, make_spec(confirm=3, repeats=3))) == 12


def eight(best: dict[int, float]) -> list[TrialRecord]:
    """Nine trials along a slope of lr that a model can learn; some with a luckier score than the slope."""
    lrs = [1e-3, *(float(lr) for lr in np.logspace(-5, -2, 10))]
    slope = {n: 0.4 + 0.1 * abs(np.log10(lr) + 4) for n, lr in enumerate(lrs)}
    return [
        make_trial(n, [1.01 * value, best.get(n, value)], params={"lr": lrs[n], "dropout": 0.2})
        for n, value in slope.items()
    ]


def test_the_model_counts_as_one_more_repeat_for_the_decision_and_not_for_the_claim() -> None:
    spec = make_spec(epochs=2, confirm=2, repeats=2, recommend="model")
    ranked = ranking(make_record(HERE, *eight({})), spec)
    first, second = (trial.number for trial in ranked.confirmed[:2])
    lead = ranked.modelled[second] - ranked.modelled[first]
    assert lead > 0
    behind = 0.4 * lead  # of the first in its repeats: less than half its lead by the model
    repeats = [make_repeat(n, r, [value]) for n, value in ((first, 0.5 + behind), (second, 0.5), (0, 0.9)) for r in (1, 2)]
    selection = select(make_record(HERE, *eight({}), *repeats), spec, val_share=0.2)
    assert selection.winner.number == first and selection.standings[0].mean == pytest.approx(0.5 + behind)
    assert selection.standings[1].trial.number == second and selection.standings[1].mean == pytest.approx(0.5)


def test_a_shortlisted_trial_that_was_cut_is_trained_to_its_end_by_its_repeats(tmp_path: Path) -> None:
    spec = make_spec(trials=2, confirm=1, repeats=2)
    conductor = make_conductor(make_folder(tmp_path), spec)
    for label, losses, state in (("0", [0.9, 0.9, 0.9, 0.9], "complete"), ("1", [0.5], "pruned")):
        job = conductor.next()
        assert not isinstance(job, str) and job.label == label
        for row in make_rows(losses):
            conductor.epoch(label, row)
        conductor.end(label, state=state, reason="")
    assert run_all(conductor, lambda config: [0.8, 0.6, 0.5, 0.4]) == ["1r1", "0r1", "1r2", "0r2"]
    assert all(len(trial.epochs) == spec.epochs for trial in conductor.record.confirmations)
