"""Epochs and seconds that a search is told to take, by hand and on ten searches that were recorded.

`recorded_searches.json.xz`: journals of searches on the phantom (test_efficientnet, 48 px, one or two slots, two cores
shared with others), cut down to what a forecast reads;
`python -m tests.search.test_forecast FOLDER...` makes it from results folders.
"""

import dataclasses
import json
import lzma
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.searches import make_record, make_repeat, make_spec, make_trial
from tune_btxrd.search.forecast import forecast, patience_share, remaining, rung_shares, seconds_left
from tune_btxrd.search.pace import pace, repeats_known
from tune_btxrd.search.record import SearchRecord, apply_event
from tune_btxrd.search.space.spec import SearchSpec

FILE = Path(__file__).parent / "recorded_searches.json.xz"
KEPT = {"event", "time", "trial", "epoch", "val_loss", "objective", "improved", "stop", "train_seconds", "val_seconds"}
KEPT |= {"state", "reason", "number", "role", "of", "repeat", "slots", "params"}


def test_what_a_trial_has_ahead_of_it_by_hand() -> None:
    spec = make_spec(epochs=4, grace_period=2, reduction_factor=3)
    # cut at epoch 2 with 1/4: 4 = 1 + (1 + 3/4 * (1 + 1))
    assert remaining(spec, 0.0, {2: 0.25}) == [3.5, 2.5, 2.0, 1.0, 0.0]
    long = remaining(make_spec(epochs=9, grace_period=1), 0.5, {})  # patience 7: after epoch 8 half of them go on
    assert long[7] == 1.5 and long[0] == 8.5


def test_the_shares_start_from_a_prior_and_follow_the_trials() -> None:
    spec = make_spec(trials=4, epochs=8, grace_period=2, reduction_factor=4)
    prior = (1 - 1 / 4) * (1 - (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert rung_shares([], spec)[2] == pytest.approx(prior)
    seen = [make_trial(0, [1.0, 1.0], state="pruned"), make_trial(1, [1.0] * 3, state="running")]
    assert rung_shares(seen, spec)[2] == pytest.approx((1 + 4 * prior) / 6)
    assert patience_share([], spec) == pytest.approx(0.04)
    patient = make_trial(2, [1.0] * 8)
    assert patience_share([patient], make_spec(epochs=20)) == pytest.approx((1 + 0.8) / (1 + 20))


def test_a_search_that_has_ended_has_nothing_ahead_of_it() -> None:
    spec = make_spec(trials=2, confirm=1, repeats=2)
    trials = [make_trial(0, [0.9] * 4), make_trial(1, [0.5] * 4)]
    repeats = [make_repeat(of, repeat, [0.5] * 4) for of in (0, 1) for repeat in (1, 2)]
    done = make_record(Path(), *trials, *repeats)
    ahead = forecast(done.trials.values(), spec, repeats=repeats_known(done, spec))
    assert (ahead.search, ahead.confirmation) == (0.0, 0.0)
    half = make_record(Path(), *trials, *repeats[:3])
    assert forecast(half.trials.values(), spec, repeats=repeats_known(half, spec)).confirmation == 4.0
    begun = make_record(Path(), trials[0])
    assert repeats_known(begun, spec) is None


def test_an_epoch_of_a_trial_over_folds_counts_once_per_fold() -> None:
    spec = make_spec(trials=4, epochs=4, confirm=1, repeats=2)
    folded = dataclasses.replace(spec, folds_per_trial=3)
    clock = {"time": 8.0, "train_seconds": 1.0, "val_seconds": 0.0}
    trials = [make_trial(0, [1.0] * 4, values=clock), make_trial(1, [1.0] * 2, state="running", values=clock)]
    one, three = forecast(trials, spec), forecast(trials, folded)
    assert three.search == 3 * one.search
    assert three.confirmation == one.confirmation
    known = {"slots": 1, "since": 0.0, "measured": None}
    quick, slow = seconds_left(one, trials, spec, **known), seconds_left(one, trials, folded, **known)
    assert quick is not None
    assert slow is not None
    assert slow < quick  # an epoch that was reported has trained three


def test_ten_recorded_searches_are_told_what_they_took() -> None:
    """Seconds left at the first epoch within 25 %, at half-time within 15 %, in the median of searches of many sizes."""
    searches = json.loads(lzma.decompress(FILE.read_bytes()))
    assert len(searches) >= 10
    errors = [_errors(search) for search in searches]
    assert statistics.median(first for first, _ in errors) < 0.25
    assert statistics.median(half for _, half in errors) < 0.15


def _errors(search: dict[str, Any]) -> tuple[float, float]:
    """Relative errors of the seconds left at the first epoch and at half-time."""
    spec, events = SearchSpec.from_text(search["space"]).override(search["settings"], {}), search["events"]
    first, end = next(event for event in events if event["event"] == "epoch"), events[-1]["time"]
    begun = first["time"] - first["train_seconds"] - first["val_seconds"]
    return tuple(_error(search, spec, at, end) for at in (first["time"], (begun + end) / 2))  # type: ignore[return-value]


def _error(search: dict[str, Any], spec: SearchSpec, at: float, end: float) -> float:
    layout = {"layout": {"epoch_seconds": search["measured"]}}
    record = SearchRecord(folder=Path(), settings=layout, trials={}, sessions=[])
    for event in search["events"]:
        if event["time"] <= at:
            apply_event(record, event | ({"config": {}} if event["event"] == "start" else {}))
    left = pace(record, spec, now=at).left
    assert left is not None
    return abs(left - (end - at)) / (end - at)


def _recorded(folder: Path) -> dict[str, Any]:
    """What a forecast reads of a results folder."""
    settings = json.loads((folder / "search.json").read_text())
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    asked = {"recommend": "best", **settings["space"]["settings"]}
    return {
        "space": (folder / "space.yaml").read_text(),
        "settings": asked,
        "measured": settings["layout"]["epoch_seconds"],
        "events": [{name: value for name, value in event.items() if name in KEPT} for event in events],
    }


if __name__ == "__main__":
    found = [_recorded(Path(name)) for name in sys.argv[1:]]
    FILE.write_bytes(lzma.compress(json.dumps(found, separators=(",", ":")).encode(), preset=9))
