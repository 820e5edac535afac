"""The winner rule on hand-made histories."""

import math
from pathlib import Path

import pytest

from tests.support.searches import SPACE, make_record, make_repeat, make_rows, make_spec, make_trial
from tune_btxrd.errors import ResultError
from tune_btxrd.results.summary import selection_lines
from tune_btxrd.search.selection.constraints import is_feasible
from tune_btxrd.search.selection.winner import confirm_seed, corrected_interval, pareto_front, ranking, select
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.tables import trials_table

HERE = Path()


def test_candidates_ran_to_their_end_and_count_with_their_best_epoch() -> None:
    record = make_record(
        HERE,
        make_trial(0, [0.9, 0.8, 0.7, 0.75]),
        make_trial(1, [0.5], state="pruned"),
        make_trial(2, [0.9, 0.6, 0.8, 0.9]),
        make_trial(3, [0.1], state="diverged"),
        make_trial(4, [0.2], state="failed"),
        make_trial(5, [0.9, 0.65, 0.66, 0.66]),
    )
    ranked = ranking(record, make_spec(confirm=2, recommend="best"))
    assert [trial.number for trial in ranked.candidates] == [2, 5, 0]
    assert [trial.number for trial in ranked.confirmed] == [2, 5, 0]
    assert [trial.number for trial in ranking(record, make_spec(confirm=3, recommend="best")).confirmed] == [2, 5, 0]


def test_the_hand_made_config_is_confirmed_even_where_it_was_stopped() -> None:
    record = make_record(HERE, make_trial(0, [0.9], state="pruned"), make_trial(1, [0.5, 0.4]), make_trial(2, [0.6, 0.5]))
    assert [trial.number for trial in ranking(record, make_spec(confirm=1)).confirmed] == [1, 0]


def test_the_luckiest_trial_loses_after_confirmation() -> None:
    """Trial 1 has the best search score by luck; trial 2 is better on fresh partitions."""
    record = make_record(
        HERE,
        make_trial(0, [0.70]),
        make_trial(1, [0.50]),
        make_trial(2, [0.60]),
        *(make_repeat(0, r, [score]) for r, score in ((1, 0.69), (2, 0.72))),
        *(make_repeat(1, r, [score]) for r, score in ((1, 0.70), (2, 0.72))),
        *(make_repeat(2, r, [score]) for r, score in ((1, 0.60), (2, 0.62))),
    )
    selection = select(record, make_spec(confirm=2), val_share=0.2)
    assert selection.winner.number == 2
    assert [item.trial.number for item in selection.standings] == [2, 0, 1]
    winner, hand_made, lucky = selection.standings
    assert winner.mean == pytest.approx(0.61) and winner.std == pytest.approx(0.01 * math.sqrt(2))
    assert winner.gain is not None and winner.gain.mean == pytest.approx(0.095)
    assert lucky.optimism == pytest.approx(0.21) and winner.optimism == pytest.approx(0.01)
    assert hand_made.gain is None and not hand_made.beats_hand_made
    # winner: differences 0.09 and 0.10, variance 5e-5, error sqrt(0.7 * 5e-5) = 0.005916, t(0.975, 1) = 12.7062
    assert (winner.gain.low, winner.gain.high) == (pytest.approx(0.0198, abs=1e-4), pytest.approx(0.1702, abs=1e-4))
    assert winner.beats_hand_made and not lucky.beats_hand_made
    assert selection_lines(selection, make_spec(confirm=2)) == [
        "Winner: trial 2 (lr 0.001, dropout 0.2)",
        "It beats the hand-made config: val loss lower by +0.0950 [+0.0198, +0.1702] "
        "(95 % interval over 2 repeats on fresh partitions).",
        "Optimism: its search score 0.6000 became 0.6100 when repeated (+0.0100).",
        "Trial 1 had the best search score (0.5000), but repeated it gives 0.7100: its lead was luck.",
    ]


def test_corrected_interval_against_a_hand_computed_one() -> None:
    # mean 0.2, s^2 = 0.01, (1/3 + 1/4) s^2 = 0.0058333, root 0.07637626, t(0.975, 2) = 4.3026527, half 0.3286205
    interval = corrected_interval([0.1, 0.2, 0.3], val_share=0.25)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.2, -0.1286205, 0.5286205), abs=1e-7)
    assert str(interval) == "+0.2000 [-0.1286, +0.5286]"


@pytest.mark.parametrize(
    ("gains", "beats"), [((0.10, 0.11, 0.12), True), ((0.10, 0.20, 0.30), False), ((-0.1, -0.11, -0.12), False)]
)
def test_beats_only_where_the_interval_excludes_0(gains: tuple[float, ...], beats: bool) -> None:
    repeats = [make_repeat(of, r, [0.7 - of * gain]) for r, gain in enumerate(gains, start=1) for of in (0, 1)]
    record = make_record(HERE, make_trial(0, [0.7]), make_trial(1, [0.5]), *repeats)
    standing = next(
        item for item in select(record, make_spec(confirm=1, repeats=3), val_share=0.25).standings if item.trial.number == 1
    )
    assert standing.beats_hand_made is beats


def test_no_confirmation_takes_the_best_search_score() -> None:
    selection = select(make_record(HERE, make_trial(0, [0.7]), make_trial(1, [0.5])), make_spec(confirm=0), val_share=0.2)
    assert selection.winner.number == 1 and selection.standings == () and selection.standing is None


def test_an_undefined_recall_enters_no_mean_and_beats_nothing() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')
    column = "val_recall_malignant"
    here, above, gone = (
        make_trial(n, [0.5 + n / 10], values={column: value}) for n, value in enumerate((0.5, 0.8, math.nan))
    )
    assert is_feasible(spec, [above, gone]) and not is_feasible(spec, [here, gone]) and not is_feasible(spec, [gone])
    assert [trial.number for trial in pareto_front(make_record(HERE, here, above, gone), column)] == [0, 1]
    assert [trial.number for trial in pareto_front(make_record(HERE, gone), column)] == [2]


def test_feasibility_goes_first_and_is_judged_on_confirmed_means() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')

    def seen(recall: float) -> dict[str, float]:
        return {"val_recall_malignant": recall}

    record = make_record(
        HERE,
        make_trial(0, [0.9], values=seen(0.6)),
        make_trial(1, [0.5], values=seen(0.4)),
        make_trial(2, [0.6], values=seen(0.8)),
        make_trial(3, [0.7], values=seen(0.7)),
        *(make_repeat(0, r, [0.9], values=seen(0.7)) for r in (1, 2)),
        *(make_repeat(2, r, [0.6], values=seen(recall)) for r, recall in ((1, 0.8), (2, 0.3))),
        *(make_repeat(3, r, [0.7], values=seen(recall)) for r, recall in ((1, 0.5), (2, 0.7))),
    )
    assert [trial.number for trial in ranking(record, spec).candidates] == [2, 3, 0, 1]
    selection = select(record, spec, val_share=0.2)
    assert selection.winner.number == 3 and not selection.none_feasible  # trial 2's mean recall is 0.55
    assert {item.trial.number: item.feasible for item in selection.standings} == {0: True, 2: False, 3: True}
    strict = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.9"}\n')
    assert ranking(record, strict).confirmed[0].number == 1


def test_none_feasible_is_said() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')
    repeats = [make_repeat(of, r, [0.5 + of]) for of in (0, 1) for r in (1, 2)]
    selection = select(make_record(HERE, make_trial(0, [0.5]), make_trial(1, [0.6]), *repeats), spec, val_share=0.2)
    assert selection.none_feasible and selection.winner.number == 0


def test_a_constraint_looks_at_the_best_epoch_and_not_at_the_last() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n').override({"confirm": 0}, {})
    trial = make_trial(0, [0.5])
    trial.epochs = make_rows([0.9, 0.5, 0.7])
    trial.epochs[1]["val_recall_malignant"] = 0.7
    assert not select(make_record(HERE, trial), spec, val_share=0.2).none_feasible


def test_unfinished_business_is_an_error() -> None:
    with pytest.raises(ResultError, match="there is none: --resume with more time"):
        ranking(make_record(HERE, make_trial(0, [0.5], state="pruned")), make_spec(recommend="best"))
    record = make_record(HERE, make_trial(0, [0.5]), make_repeat(0, 1, [0.5]), make_repeat(0, 2, [0.5], state="running"))
    with pytest.raises(ResultError, match="trial 0r2 has not: search --resume"):
        select(record, make_spec(), val_share=0.2)
    lone = make_record(HERE, make_trial(0, [0.5]), make_repeat(0, 1, [0.5]), make_repeat(0, 2, [0.5], state="failed"))
    with pytest.raises(ResultError, match="none ended well"):
        select(lone, make_spec(), val_share=0.2)


def test_a_failed_repeat_leaves_the_pairs_that_are_whole() -> None:
    record = make_record(
        HERE,
        make_trial(0, [0.7]),
        make_trial(1, [0.5]),
        *(make_repeat(0, r, [0.70 + 0.01 * r]) for r in (1, 2, 3)),
        make_repeat(1, 1, [0.61]),
        make_repeat(1, 2, [0.62], state="failed"),
        make_repeat(1, 3, [0.63]),
    )
    standing = select(record, make_spec(confirm=1, repeats=3), val_share=0.2).standings[0]
    assert standing.trial.number == 1 and standing.scores == (0.61, 0.63)
    assert (
        standing.gain is not None and standing.gain.mean == pytest.approx(0.10) and standing.gain.low == pytest.approx(0.10)
    )


def test_confirm_seeds_differ_per_repeat_and_from_the_search() -> None:
    seeds = [confirm_seed(42, repeat) for repeat in (1, 2, 3)]
    assert len({42, *seeds}) == 4 and seeds == [confirm_seed(42, repeat) for repeat in (1, 2, 3)]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_pareto_front_of_val_loss_and_recall() -> None:
    points = {0: (0.5, 0.4), 1: (0.6, 0.6), 2: (0.7, 0.6), 3: (0.8, 0.9), 4: (0.9, 0.8), 5: (0.5, 0.4)}
    trials = [make_trial(n, [loss], values={"val_recall_malignant": recall}) for n, (loss, recall) in points.items()]
    record = make_record(HERE, *trials, make_trial(6, [0.1], state="running"))
    record.trials["6"].epochs.clear()
    assert [trial.number for trial in pareto_front(record, "val_recall_malignant")] == [0, 5, 1, 3]


def test_pareto_front_of_val_loss_and_the_gap_between_centers() -> None:
    points = {0: (0.5, 0.3), 1: (0.6, 0.2), 2: (0.7, 0.2), 3: (0.8, 0.0), 4: (0.4, math.nan)}
    trials = [make_trial(n, [loss], values={"center_gap": gap}) for n, (loss, gap) in points.items()]
    assert [trial.number for trial in pareto_front(make_record(HERE, *trials), "center_gap")] == [0, 1, 3]
    table = trials_table(make_record(HERE, *trials))
    assert table["center_gap"].tolist() == pytest.approx([gap for _, gap in points.values()], nan_ok=True)
    assert "center_gap" not in trials_table(make_record(HERE, make_trial(0, [0.5], values={"center_gap": math.nan})))
    assert pareto_front(make_record(HERE, make_trial(0, [0.5])), "center_gap") == []  # of before there were gaps
