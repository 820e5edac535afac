"""Cost of an epoch by image size: by pixels, as measured, by the epochs of trials; what a forecast makes of it."""

import json
from pathlib import Path

import pytest

from tests.support.searches import SPACE, make_record, make_repeat, make_spec, make_trial
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.cost import PRIOR_EPOCHS, PRIOR_TRIALS, epoch_costs, pixel_costs
from tune_btxrd.search.forecast import forecast, remaining
from tune_btxrd.search.pace import pace, time_left
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.describe import explain
from tune_btxrd.search.space.spec import SearchSpec

SIZES = "  image_size: {choices: [64, 32, 128]}\nstart:\n  - {lr: 1.0e-3, dropout: 0.2, image_size: 64}\n"


def sized_spec(**settings: object) -> SearchSpec:
    """The space of tests with three sizes; the hand-made config has the middle one."""
    return SearchSpec.from_text(SPACE.partition("start:")[0] + SIZES).override({"scheduler": "none", **settings}, {})


def sized(number: int, size: int, epochs: int, seconds: float, *, state: str = "running") -> TrialRecord:
    """A trial at a size whose epochs took so long."""
    clock = {"time": 8.0, "train_seconds": seconds, "val_seconds": 0.0}
    trial = make_trial(number, [1.0] * max(epochs, 1), state=state, values=clock)
    trial.epochs = trial.epochs[:epochs]
    trial.config = {**trial.config, "image_size": size}
    return trial


def test_the_sizes_of_a_space_are_its_choices_or_the_steps_of_its_range() -> None:
    assert sized_spec().image_sizes == (32, 64, 128) and sized_spec().hand_made.image_size == 64
    assert make_spec().image_sizes == (224,)
    assert make_spec().override({}, {"image_size": 96}).image_sizes == (96,)
    ranged = SPACE.replace("dropout: 0.2", "dropout: 0.2, image_size: 96").replace(
        "start:", "  image_size: {low: 64, high: 128, step: 32}\nstart:"
    )
    assert SearchSpec.from_text(ranged).image_sizes == (64, 96, 128)
    waiting = SIZES.replace("128]", "128], when: {lr: [1.0e-3]}")
    assert SearchSpec.from_text(SPACE.partition("start:")[0] + waiting).image_sizes == (32, 64, 128, 224)
    with pytest.raises(ConfigError, match=r"image_size=64 is searched there \(64 \| 32 \| 128\)"):
        sized_spec().override({}, {"image_size": 64})


def test_costs_by_hand() -> None:
    assert pixel_costs((32, 64), base=64) == {32: 0.25, 64: 1.0} and pixel_costs((32,), base=64, dimensions=3) == {32: 1 / 8}
    spec = sized_spec()
    assert epoch_costs(spec).by_size == {32: 0.25, 64: 1.0, 128: 4.0}
    assert epoch_costs(make_spec()).by_size == {224: 1.0} and epoch_costs(make_spec()).largest == 1.0
    measured = {32: 1.0, 64: 2.0, 128: 6.0}
    assert epoch_costs(spec, measured=measured).by_size == {32: 0.5, 64: 1.0, 128: 3.0}
    assert epoch_costs(spec, measured={64: 2.0}).by_size == epoch_costs(spec).by_size  # not of every size
    volumes = spec.override({}, {"backbone": "resnet3d_10"})
    assert epoch_costs(volumes).by_size == {32: 1 / 8, 64: 1.0, 128: 8.0}


def test_a_space_that_is_explained_says_what_sizes_cost() -> None:
    line = "image sizes   an epoch costs 0.25 at 32 px, 1.00 at 64 px, 4.00 at 128 px (by pixels)"
    assert line in explain(sized_spec(), samples=1)
    assert not [line for line in explain(make_spec(), samples=1) if line.startswith("image sizes")]


def test_costs_follow_the_epochs_of_the_session_the_more_the_more_there_are() -> None:
    spec = sized_spec()
    trials = [sized(0, 64, 4, 2.0), sized(1, 128, 4, 4.0)]
    unit = (4 * 2.0 + 4 * 4.0) / (4 * 1.0 + 4 * 4.0)
    by_hand = {
        32: 0.25,
        64: (4 * 2.0 / unit + PRIOR_EPOCHS * 1.0) / (4 + PRIOR_EPOCHS),
        128: (4 * 4.0 / unit + PRIOR_EPOCHS * 4.0) / (4 + PRIOR_EPOCHS),
    }
    found = epoch_costs(spec, trials)
    assert found.by_size == pytest.approx({size: cost / by_hand[64] for size, cost in by_hand.items()})
    assert 2.0 < found.by_size[128] < 4.0  # it took twice as long, pixels say four times
    assert epoch_costs(spec, trials, since=9.0).by_size == epoch_costs(spec).by_size
    assert found.of(trials[1]) == found.by_size[128] and found.of(make_trial(2, [1.0])) == 1.0  # a record of before: no size


def test_a_forecast_counts_epochs_by_their_cost() -> None:
    spec, plain = sized_spec(trials=4, confirm=1), make_spec(trials=4, confirm=1, scheduler="none")
    whole = remaining(plain, 0.04, {})[0]
    begun = [sized(0, 128, 2, 1.0), sized(1, 32, 2, 1.0)]
    costs = epoch_costs(spec)
    ahead = forecast(begun, spec, costs=costs)
    expected = (PRIOR_TRIALS * costs.mean + 4.0 + 0.25) / (PRIOR_TRIALS + 2)
    half = remaining(plain, 0.04, {})[2]
    assert ahead.search == pytest.approx(2 * whole * expected + half * (4.0 + 0.25), rel=0.02)
    assert forecast((), plain).search == pytest.approx(4 * whole, rel=0.02)
    repeat = make_repeat(0, 1, [1.0], state="running")
    repeat.config = {**repeat.config, "image_size": 128}
    cheap = make_repeat(0, 1, [1.0], state="running")  # no size is that of the hand-made config
    dear, usual = (forecast([*begun, last], spec, repeats=1, costs=costs).confirmation for last in (repeat, cheap))
    assert dear == pytest.approx(4 * usual)


def test_seconds_are_told_by_the_cost_of_what_is_left() -> None:
    """Two searches that took the same: one has its dear trial behind it, one before it."""
    spec = sized_spec(trials=2, confirm=0)
    done, left = sized(0, 128, 4, 4.0, state="complete"), sized(1, 32, 0, 0.0)
    known = {"slots": 1, "since": 0.0, "measured": None}
    cheap_left = time_left(make_record(Path(), done, left), spec, **known)
    done, left = sized(0, 32, 4, 0.25, state="complete"), sized(1, 128, 0, 0.0)
    dear_left = time_left(make_record(Path(), done, left), spec, **known)
    assert cheap_left is not None
    assert dear_left is not None
    assert cheap_left < 4 * 0.25 * 2 and dear_left > 4 * 4.0 / 2
    # an epoch budget counts epochs, whatever they cost: the one that is left is as dear as what it trains
    one_epoch = time_left(make_record(Path(), done, left), spec, **known, epoch_budget=5)
    assert one_epoch == pytest.approx(dear_left / 4)


def test_what_was_measured_per_size_is_read_from_search_json(tmp_path: Path) -> None:
    spec = sized_spec(trials=2, confirm=0)
    record = make_record(tmp_path, sized(0, 64, 1, 1.0), sized(1, 128, 0, 0.0))
    by_pixels = pace(record, spec, now=9.0).left
    record.settings = json.loads('{"layout": {"epoch_seconds": 1.0, "size_seconds": {"32": 0.9, "64": 1.0, "128": 1.1}}}')
    assert by_pixels is not None
    flat = pace(record, spec, now=9.0).left
    assert flat is not None
    assert flat < by_pixels / 2
