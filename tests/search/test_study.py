"""What Optuna is told, counted by its own API: states, intermediate values, attributes; and what a proposal depends on."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.searches import SPACE, make_rows, make_spec
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import TrialStudy, fresh_database
from tune_btxrd.search.study_database import open_storage

START = make_spec().start
DIVERGED = "The loss must stay finite, but got nan in epoch 3 at lr=0.01: use a smaller lr."


def live(study: TrialStudy, losses: list[float], *, state: str, reason: str, stop: str = "") -> TrialRecord:
    """Asks for a trial, reports made-up epochs and tells its end."""
    number, params, config = study.ask()
    record = TrialRecord(
        label=str(number), number=number, role="search", config=config.to_dict(), params=params, started=1.0
    )
    for row in make_rows(losses, stop=stop) if losses else []:
        study.report(number, row["epoch"], row["objective"])
        record.epochs.append(row)
    record.state, record.reason, record.ended = state, reason, 2.0
    study.tell(record)
    return record


def all_endings(study: TrialStudy) -> list[TrialRecord]:
    """One trial of each kind."""
    return [
        live(study, [0.9, 0.7, 0.8], state="complete", reason="stopped by its own patience", stop="patience"),
        live(study, [1.0, 0.95], state="pruned", reason="stopped by ASHA at epoch 2"),
        live(study, [2.0, 1.5], state="diverged", reason=DIVERGED),
        live(study, [], state="failed", reason="RuntimeError: no memory"),
        live(study, [], state="diverged", reason=DIVERGED),
    ]


def test_states_and_values_as_optuna_counts_them(tmp_path: Path) -> None:
    path = fresh_database(tmp_path)
    study = TrialStudy(make_spec(), path, "s", start=START)
    all_endings(study)
    study.close()
    complete, pruned, diverged, failed, at_once = optuna.load_study(study_name="s", storage=open_storage(path)).trials
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 0.7)
    assert complete.intermediate_values == {1: 0.9, 2: 0.7, 3: 0.7}
    assert pruned.state == TrialState.PRUNED and pruned.intermediate_values == {1: 1.0, 2: 0.95}
    assert pruned.user_attrs["reason"] == "stopped by ASHA at epoch 2" and "diverged" not in pruned.user_attrs
    assert diverged.state == TrialState.PRUNED and diverged.value == 1.5  # Optuna's value of a pruned trial: its last one
    assert diverged.user_attrs["diverged"] == DIVERGED and diverged.user_attrs["state"] == "diverged"
    assert failed.state == TrialState.FAIL and failed.user_attrs["reason"] == "RuntimeError: no memory"
    assert at_once.state == TrialState.PRUNED and at_once.intermediate_values == {}


def test_a_study_made_anew_from_the_record_is_the_same() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')
    first = TrialStudy(spec, None, "s", start=START)
    past = all_endings(first)
    again = TrialStudy(spec, None, "s", start=START, past=tuple(past))
    for old, new in zip(first.study.trials, again.study.trials, strict=True):
        for field in (
            "number",
            "state",
            "params",
            "distributions",
            "intermediate_values",
            "user_attrs",
            "constraints",
            "values",
        ):
            assert getattr(old, field) == getattr(new, field), field
    assert [trial.params for trial in again.study.trials] == [record.params for record in past]
    assert first.ask() == again.ask()


def test_constraints_reach_the_sampler_as_optuna_knows_them() -> None:
    study = TrialStudy(
        SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n'), None, "s", start=START
    )
    live(study, [0.9], state="complete", reason="", stop="budget")
    trial = study.study.trials[0]
    assert trial.constraints == {"val_recall_malignant >= 0.6": pytest.approx(0.1)}
    assert trial.user_attrs["val_recall_malignant"] == 0.5


def test_the_sampler_prefers_feasible_configs() -> None:
    """The loss falls with the dropout, but only a dropout from 0.3 up keeps the constraint."""

    def proposals(text: str) -> list[float]:
        spec = SearchSpec.from_text(text.replace("startup_trials: 3", "startup_trials: 8"))
        study, found = TrialStudy(spec, None, "s"), []
        for _ in range(30):
            number, params, config = study.ask()
            trial = TrialRecord(
                label=str(number), number=number, role="search", config=config.to_dict(), params=params, started=1.0
            )
            trial.epochs = make_rows([params["dropout"]], stop="budget", val_recall_malignant=2 * params["dropout"])
            trial.state, trial.ended = "complete", 2.0
            study.report(number, 1, params["dropout"])
            study.tell(trial)
            found.append(params["dropout"])
        return found[15:]

    free = proposals(SPACE)
    bound = proposals(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')
    assert sum(dropout >= 0.3 for dropout in free) <= 3
    assert sum(dropout >= 0.28 for dropout in bound) >= 8


def test_trial_0_is_the_hand_made_config() -> None:
    number, params, config = TrialStudy(make_spec(), None, "s", start=START).ask()
    assert (number, params, config) == (0, {"lr": 1e-3, "dropout": 0.2}, make_spec().hand_made)


@pytest.mark.parametrize("sampler", ["tpe", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_proposal_depends_on_seed_number_and_past_alone(sampler: str) -> None:
    spec = SearchSpec.from_text(SPACE.replace("scheduler: asha", f"sampler: {sampler}\nscheduler: none"))
    first = TrialStudy(spec, None, "s", start=START)
    past = [live(first, [1.0 - 0.1 * k, 0.9 - 0.1 * k], state="complete", reason="", stop="budget") for k in range(5)]
    uninterrupted = first.ask()
    for known in (0, 2, 5):  # resumed after so many trials, the others asked again
        again = TrialStudy(spec, None, "s", start=START, past=tuple(past[:known]))
        for k in range(known, 5):
            live(again, [1.0 - 0.1 * k, 0.9 - 0.1 * k], state="complete", reason="", stop="budget")
        assert again.ask() == uninterrupted
    if sampler != "gp":  # which finds its one best point with any seed
        other = TrialStudy(spec.override({"seed": 7}, {}), None, "s", start=START, past=tuple(past))
        assert other.ask()[1] != uninterrupted[1]


def test_a_running_trial_goes_on_after_a_restart(tmp_path: Path) -> None:
    first = TrialStudy(make_spec(), None, "s", start=START)
    number, params, config = first.ask()
    running = TrialRecord(label="0", number=number, role="search", config=config.to_dict(), params=params, started=1.0)
    running.epochs = make_rows([0.9, 0.8])
    study = TrialStudy(make_spec(), fresh_database(tmp_path), "s", start=START, past=(running,))
    assert study.study.trials[0].state == TrialState.RUNNING
    study.report(0, 3, 0.6)
    running.epochs, running.state = make_rows([0.9, 0.8, 0.6], stop="patience"), "complete"
    study.tell(running)
    trial = study.study.trials[0]
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 0.6, {1: 0.9, 2: 0.8, 3: 0.6})


def test_a_damaged_database_and_its_journal_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"no database")
    (tmp_path / "optuna.db-journal").write_bytes(b"half a transaction")
    assert TrialStudy(make_spec(), fresh_database(tmp_path), "s", start=START).ask()[0] == 0


def test_a_monitor_where_higher_is_better_reaches_optuna_with_its_own_sign() -> None:
    spec = SearchSpec.from_text(SPACE + "monitor: macro_auc\n")
    study = TrialStudy(spec, None, "s", start=spec.start)
    record = live(study, [-0.6, -0.8], state="complete", reason="ran its full budget", stop="budget")
    cut = live(study, [-0.5], state="pruned", reason="stopped by ASHA at epoch 1")
    assert study.study.direction == optuna.study.StudyDirection.MAXIMIZE and study.study.best_value == 0.8
    assert study.study.trials[0].intermediate_values == {1: 0.6, 2: 0.8}
    again = TrialStudy(spec, None, "s", start=spec.start, past=(record, cut))
    kept = [(trial.state, trial.intermediate_values) for trial in again.study.trials[:2]]
    assert kept == [(trial.state, trial.intermediate_values) for trial in study.study.trials[:2]]
    assert again.study.best_value == 0.8
    assert (record.score, record.shown) == (0.8, "val macro-AUC 0.8000") and record.rank < cut.rank
