"""The replay benchmark on a hand-made table: the surrogate answers what was recorded, methods spend what they say."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest

from benchmarks import replay_curves
from benchmarks.replay_methods import METHODS, Training
from benchmarks.replay_surrogate import DIVERGED, Surrogate
from tests.support.searches import make_spec

SPEC = make_spec(trials=10**6, epochs=8, grace_period=2, confirm=0)


def bowl() -> pd.DataFrame:
    """A table of 64 configs whose curves fall to a bowl over lr and dropout; the highest lr diverges."""
    rows = []
    for number, (lr, dropout) in enumerate((lr, d) for lr in np.geomspace(1e-5, 1e-2, 8) for d in np.linspace(0, 0.5, 8)):
        floor = 0.5 + 0.1 * (np.log10(lr) + 4) ** 2 + (dropout - 0.3) ** 2
        losses = [floor + 0.5 / epoch for epoch in range(1, 9)]
        for epoch, loss in enumerate(losses if lr < 1e-2 else losses[:2], start=1):
            rows.append({"config": number, "lr": lr, "dropout": dropout, "epoch": epoch, "val_loss": loss})
        if lr >= 1e-2:
            rows.append({"config": number, "lr": lr, "dropout": dropout, "epoch": 3, "val_loss": np.nan})
    return pd.DataFrame(rows)


SURROGATE = Surrogate.fit(bowl(), SPEC)


def test_the_recorded_table_is_whole() -> None:
    table = replay_curves.load()
    assert table["config"].nunique() >= 96
    for number, curve in table.groupby("config"):
        diverged = curve["val_loss"].isna().to_numpy()
        assert not diverged[:-1].any(), number
        assert list(curve["epoch"]) == list(range(1, len(curve) + 1)), number
        assert len(curve) == replay_curves.FIXED["epochs"] or diverged[-1], number
    recorded = table.groupby("config")[["lr", "dropout", "weight_decay"]].first().to_dict("records")
    assert recorded == replay_curves.grid(len(recorded))


def test_surrogate_ranks_configs_as_recorded_and_knows_its_error() -> None:
    good, bad = {"lr": 1e-4, "dropout": 0.3}, {"lr": 1e-5, "dropout": 0.0}
    assert SURROGATE.truth(good) < SURROGATE.truth(bad)
    errors = SURROGATE.errors()
    assert errors["mean absolute error"] < errors["spread of real"] and errors["rank correlation"] > 0.9
    assert SURROGATE.crossings(4) == 0.0 or SURROGATE.crossings(4) < 0.05


def test_a_training_has_the_same_luck_everywhere_and_ends_by_the_trainers_rules() -> None:
    config = {"lr": 3e-4, "dropout": 0.25}
    assert Training(SURROGATE, SPEC, config).curve == Training(SURROGATE, SPEC, config).curve
    other = make_spec(trials=10**6, epochs=8, grace_period=2, confirm=0, seed=7)
    assert Training(SURROGATE, SPEC, config).curve != Training(SURROGATE, other, config).curve
    training = Training(SURROGATE, SPEC, config)
    training.curve = [0.9, 0.5, *[0.6] * 8]
    rows = []
    while not training.stop:
        rows.append(training.step())
    assert (training.stop, training.epoch, rows[-1]["objective"]) == ("patience", 9, 0.5)
    training = Training(SURROGATE, SPEC, config)
    training.curve = [0.9, DIVERGED, 0.1]
    assert [training.step()["stop"], training.step()["stop"]] == ["", "diverged"] and training.best == 0.9


@pytest.mark.parametrize("name", METHODS)
def test_every_method_spends_its_epochs_and_comes_near_the_bottom(name: str) -> None:
    picks = list(islice(METHODS[name](SURROGATE, SPEC), 150))
    assert len(picks) == 150 and dict(picks[0]) == dict(SPEC.start[0])
    assert SURROGATE.truth(picks[-1]) <= SURROGATE.truth(picks[0])
