"""Priors: draws near a value believed good, in start-up alone, from a YAML or from an earlier search."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.searches import SPACE, make_conductor, make_folder, run_all
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.prior import PriorDraw, believed_trials, is_believed
from tune_btxrd.search.space.knowledge import informed, knowledge
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import make_sampler

PRIOR = SPACE.replace("high: 1.0e-2, log: true}", "high: 1.0e-2, log: true, prior: 1.0e-4}").replace(
    "space:", "space:\n  batch_size: {low: 8, high: 64, step: 8, prior: 16}\n  loss: {choices: [ce, weighted_ce], prior: ce}"
)
PRIOR = PRIOR.replace("{lr: 1.0e-3, dropout: 0.2}", "{batch_size: 32, loss: weighted_ce, lr: 1.0e-3, dropout: 0.2}")
SPEC = SearchSpec.from_text("monitor: macro_auc\n" + PRIOR)


def test_draws_lie_near_the_prior_and_uniform_where_there_is_none() -> None:
    drawn = [PriorDraw(SPEC, seed).params for seed in range(400)]
    for values in drawn:
        SPEC.complete(values)  # within the space, and complete
    logs = np.log10([values["lr"] for values in drawn])
    assert abs(logs.mean() + 4) < 0.1 and 0.3 < logs.std() < 0.5  # 0.15 of three decades
    assert 0.78 < np.mean([values["loss"] == "ce" for values in drawn]) < 0.92  # 0.7 + 0.3 / 2
    assert {values["batch_size"] for values in drawn} <= set(range(8, 65, 8))
    assert 0.13 < np.std([values["dropout"] for values in drawn]) < 0.16  # uniform over 0.5


def test_only_every_second_trial_of_start_up_is_believed() -> None:
    spec = SPEC.override({"startup_trials": 6}, {})
    assert [number for number in range(40) if is_believed(spec, number)] == [1, 3, 5]
    assert believed_trials(spec) == 3 and believed_trials(SearchSpec.from_text(SPACE)) == 0
    sampler = make_sampler(spec, 8)
    assert sampler._n_startup_trials == 9, "as many even draws as without a prior"
    assert not any(is_believed(SearchSpec.from_text(SPACE), number) for number in range(40))


def test_a_search_draws_near_its_prior_and_resumes_the_same(tmp_path: Path) -> None:
    spec = SPEC.override({"trials": 6, "startup_trials": 6, "seed": 3, "confirm": 0}, {})
    made = {}
    for name, parts in (("whole", (6,)), ("cut", (1, 2, 3))):
        folder = make_folder(tmp_path / name)
        for jobs in parts:
            conductor = make_conductor(folder, spec)
            run_all(conductor, lambda config: [config["lr"]], jobs=jobs)
        made[name] = [dict(trial.params) for trial in conductor.record.search_trials]
        assert len(conductor.search.study.get_trials()) == 6, "no enqueued trial is left"
    assert made["whole"] == made["cut"]
    near = [abs(np.log10(made["whole"][number]["lr"]) + 4) for number in (1, 3, 5)]
    assert max(near) < 1.5 and np.mean(near) < 0.7


@pytest.mark.parametrize(
    ("text", "message"),
    [("prior: 1.0", r"lr.prior lies in 1e-05 .. 0.01 \(log\)"), ("prior: high", "lr.prior"), ("believe: 1", "prior")],
)
def test_a_prior_outside_of_its_range_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpec.from_text(SPACE.replace("high: 1.0e-2, log: true", f"high: 1.0e-2, log: true, {text}"))


def test_an_earlier_winner_is_the_second_trial_and_the_prior() -> None:
    spec = SearchSpec.from_text(SPACE)
    known = knowledge("old", "7", "val loss 0.4", winner={"lr": 2e-4, "dropout": 0.9, "seed": 1}, spec=spec)
    assert (dict(known.values), known.left_out) == ({"lr": 2e-4}, ("dropout",))
    made = informed(spec, known)
    assert [dict(values) for values in made.start] == [{"lr": 1e-3, "dropout": 0.2}, {"lr": 2e-4, "dropout": 0.2}]
    assert [item.prior for item in made.space] == [2e-4, None]
    own = SearchSpec.from_text(SPACE.replace("log: true}", "log: true, prior: 1.0e-3}"))
    assert informed(own, known).space[0].prior == 1e-3, "a prior of the YAML's own stays"
    hand_made = knowledge("old", "0", "", winner={"lr": 1e-3, "dropout": 0.2}, spec=spec)
    assert len(informed(spec, hand_made).start) == 1, "trial 0 is not trained twice"
    assert informed(spec, None) is spec


def test_knowledge_leaves_conditional_hyperparameters_consistent() -> None:
    text = """
space:
  optimizer: {choices: [adamw, sgd]}
  momentum: {low: 0.5, high: 0.99, when: {optimizer: sgd}}
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
start:
  - {optimizer: adamw, lr: 1.0e-3}
"""
    spec = SearchSpec.from_text(text)
    known = knowledge("old", "3", "", winner={"optimizer": "sgd", "momentum": 0.9, "lr": 1e-4}, spec=spec)
    assert dict(informed(spec, known).start[1]) == {"optimizer": "sgd", "momentum": 0.9, "lr": 1e-4}
    lost = knowledge("old", "3", "", winner={"optimizer": "sgd", "lr": 1e-4}, spec=spec)
    assert len(informed(spec, lost).start) == 1, "sgd without a momentum is no config"
