"""The replay on hand-made curves: families tell the truth, methods spend what they say, tables compare like with like."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from benchmarks import replay_curves, replay_report
from benchmarks.replay_families import MADE, PATIENCE, Family, Luck, best_under_patience
from benchmarks.replay_methods import KNOWING, METHODS, RULES
from benchmarks.replay_report import differences, paired, ratio, worst_losses
from benchmarks.replay_runs import BUDGETS
from benchmarks.replay_training import Training, begin
from tune_btxrd.search.space.spec import SearchSpec

SPEC = SearchSpec.load(replay_curves.SPACE).override({"trials": 10**6, "epochs": 9, "grace_period": 2, "confirm": 0}, {})
POINTS = np.array([[0.1, 0.5, 0.5], [0.5, 0.5, 0.5], [0.9, 0.5, 0.5]])


def made_luck(size: float) -> Luck:
    """Two repeats per config, opposite to each other; the second config has twice the luck of the others."""
    wave = size * np.sin(np.arange(9))
    return Luck(POINTS, np.stack([np.stack([factor * wave, -factor * wave]) for factor in (1, 2, 1)]), near=1)


def bowl(points: np.ndarray) -> np.ndarray:
    """Curves that fall to a bowl over the learning rate."""
    floor = np.log(0.5) + 2 * (points[:, :1] - 0.3) ** 2
    return np.asarray(floor + 0.5 / np.arange(1, 10))


FAMILY = Family("bowl", 9, bowl, made_luck(0.1), SPEC)


@pytest.mark.parametrize("recording", replay_curves.RECORDINGS.values(), ids=lambda item: item.name)
def test_a_recorded_table_holds_whole_trainings_in_order(recording: replay_curves.Recording) -> None:
    table = replay_curves.load(recording)
    wanted = replay_curves.grid(recording.configs)
    assert not table.duplicated(["config", "repeat"]).any()
    for row in table.to_dict("records"):
        losses = np.array([row[f"val_loss_{epoch}"] for epoch in range(1, recording.epochs + 1)])
        unknown = np.isnan(losses)
        assert not (unknown[:-1] & ~unknown[1:]).any(), "no loss follows a divergence"
        assert {name: row[name] for name in replay_curves.NAMES} == wanted[int(row["config"])]
    values, losses = replay_curves.curves(recording)
    assert losses.shape == (len(values), int(table["repeat"].max()) + 1, recording.epochs)


def test_recording_has_every_config_before_any_repeat_and_then_whole_repeats() -> None:
    assert replay_curves.order(3, repeated=2, repeats=3) == [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (1, 2)]


def test_luck_has_mean_zero_at_each_location_and_the_variance_of_one_training() -> None:
    generator = np.random.default_rng(0)
    losses = generator.normal(0, 0.2, (400, 3, 6)) + generator.normal(0, 5, (400, 1, 6))
    losses[7, 2, 3] = np.nan  # a config of which one repeat diverged tells nothing
    luck = Luck.recorded(generator.random((400, 3)), losses)
    assert len(luck.points) == 399
    found = luck.at(generator.random((50, 3)))
    assert found.shape == (50, 9, 6)
    assert np.allclose(found.mean(axis=1), 0)
    assert luck.deviations.std() == pytest.approx(0.2, rel=0.03)


def test_truth_is_the_expected_best_loss_over_luck_under_the_trainers_patience() -> None:
    point = POINTS[1:2]
    either = [np.exp(bowl(point)[0] + sign * 0.2 * np.sin(np.arange(9))).min() for sign in (1, -1)]
    assert FAMILY.truth(point)[0] == pytest.approx(np.mean(either))
    config = {"lr": 10**-3.5, "dropout": 0.25, "weight_decay": 10**-3.5}
    drawn = [min(begin_one(config, seed).curve) for seed in range(200)]
    assert np.mean(drawn) == pytest.approx(np.mean(either), abs=4 * np.std(drawn) / 200**0.5)
    late = np.array([1.0, 0.9, *[0.95] * PATIENCE, 0.1])
    assert best_under_patience(late) == 0.9
    assert best_under_patience(np.stack([late, late[::-1]])).tolist() == [0.9, 0.1]


def begin_one(config: dict[str, float], seed: int) -> Training:
    return begin(replace(FAMILY, spec=SPEC.override({"seed": seed}, {})), config)


def test_a_training_has_the_same_luck_everywhere_and_ends_by_the_trainers_rules() -> None:
    config = {"lr": 3e-4, "dropout": 0.25, "weight_decay": 1e-3}
    assert begin_one(config, 1).curve == begin_one(config, 1).curve
    assert len({tuple(begin_one(config, seed).curve) for seed in range(20)}) == 2
    training = Training(config, [0.9, 0.5, *[0.6] * 8])
    rows = []
    while not training.stop:
        rows.append(training.step())
    assert (training.stop, training.epoch, rows[-1]["objective"]) == ("patience", 9, 0.5)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_spends_its_epochs_and_comes_near_the_bottom(name: str) -> None:
    method = METHODS[name]
    spent = method.run(FAMILY, 0)
    for epochs, begun in enumerate(islice(spent, 150), start=1):
        assert sum(item.epoch for item in begun) == epochs
    assert begun[0].config == pytest.approx(dict(SPEC.start[0]))
    for rule in method.rules:
        chosen = RULES[rule](begun, FAMILY)
        truth, hand_made = FAMILY.truth(np.array([FAMILY.unit(chosen.config), FAMILY.unit(SPEC.start[0])]))
        assert truth <= hand_made, rule
    assert (
        method.search is not METHODS["asha, tpe"].search
        or any(item.state == "pruned" for item in begun)
        or "promote" in name
    )


def test_promotion_lets_paused_trainings_go_on() -> None:
    begun: list[Training] = []
    held = set()
    for begun in islice(METHODS["promote, random"].run(FAMILY, 0), 200):
        held |= {item.label for item in begun if item.epoch == 2}
    beyond = {item.label for item in begun if item.epoch > 2}
    assert beyond < held and 1 / 5 < len(beyond) / len(held) < 1 / 2, "about one in three goes on"
    assert any(int(first) > int(second) for first, second in zip(order(begun), order(begun)[1:], strict=False))


def order(begun: list[Training]) -> list[str]:
    """Labels of those that went on, the longest first."""
    return [item.label for item in sorted(begun, key=lambda item: -item.epoch) if item.epoch > 2]


def test_made_families_cross_as_they_say() -> None:
    crossing = {
        name: replace(FAMILY, epochs=30, expected=made, luck=luck_of(30)).crossings() for name, (made, _) in MADE.items()
    }
    assert 0.25 < crossing["crossing"] < 0.35
    assert crossing["smooth"] < 0.05 and crossing["two optima"] > 0.25


def luck_of(epochs: int) -> Luck:
    return Luck(POINTS, np.zeros((3, 2, epochs)))


def test_differences_are_paired_by_seed_and_only_where_both_were_run() -> None:
    own = {seed: np.full(len(BUDGETS), 0.1 + seed) for seed in range(4)}
    other = {seed: np.array([0.3 + seed + 0.01 * seed]) for seed in range(6)}
    mean, error = paired(own, other, 0)
    assert mean == pytest.approx(-0.215) and error == pytest.approx(np.std([0, 0.01, 0.02, 0.03], ddof=1) / 2)
    assert np.isnan(paired(own, other, 1)[0])
    found = {("ours", "model"): own, ("theirs", "best"): other}
    row = differences(found, ("ours", "model"), list(found))[-1]
    assert row.startswith("| theirs, best | -0.2150 +- 0.0065 * |") and row.count("|") == len(BUDGETS) + 2


def test_ratio_of_epochs_to_equal_regret() -> None:
    theirs = np.array([0.4, 0.2, 0.2, 0.1, 0.1, 0.1])
    assert ratio(np.array([0.2]), theirs, 0) == pytest.approx(2.0)  # 180 epochs for our 90
    assert ratio(np.array([0.3]), theirs, 0) == pytest.approx(2**0.5)  # half of the way in log epochs
    assert ratio(np.array([0.05]), theirs, 0) == np.inf
    assert ratio(np.array([9.0, 0.5]), theirs, 1) == 0.5  # at its first budget it was there already


def test_worst_loss_names_the_family_and_the_better_method() -> None:
    flat = {seed: np.full(len(BUDGETS), 0.2) for seed in range(3)}
    low = {seed: np.full(len(BUDGETS), 0.05) for seed in range(3)}
    found = {
        "easy": {("a", "best"): flat, ("b", "best"): flat},
        "hard": {("a", "best"): flat, ("b", "best"): low},
    }
    rows = worst_losses(found, [("a", "best"), ("b", "best")])
    assert "0.150 +- 0.000 (hard, b)" in rows[2] and rows[3].count("| 0 ") == len(BUDGETS)
    assert replay_report.parts_table({("a", "begun"): low, ("a", "finished"): flat, ("a", "best"): flat}, 360)[2].startswith(
        "| a | 0.0500 +- 0.0000 | 0.2000"
    )


@pytest.mark.parametrize("name", ["asha, tpe, bad prior", "asha, tpe, from good search"])
def test_knowledge_moves_start_up_alone(name: str) -> None:
    *_, begun = islice(KNOWING[name].run(FAMILY, 0), 200)
    told = FAMILY.unit(FAMILY.at_quantile(0.0 if "good" in name else 1.0))
    away = np.abs(np.array([FAMILY.unit(item.config) for item in begun]) - told).max(axis=1)
    assert (away[[3, 5, 7]] < 0.5).all()
    assert (away[1] < 1e-9) == ("from" in name), "the earlier winner itself is trial 1 where it is told"
