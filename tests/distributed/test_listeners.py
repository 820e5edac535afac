"""What a search tells others: TensorBoard, MLflow, W&B, Ray's metrics. Made-up searches; Ray itself is in `test_driver`."""

import getpass
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.event_logs import mlflow_runs, read_events, read_scalars, wandb_runs
from tests.support.paths import ROOT
from tests.support.reports import StubSearch, make_search, make_settings
from tests.support.searches import make_record, make_trial
from tests.support.waiting import until
from tune_btxrd.distributed.listeners.cleanup import CheckpointKeeper
from tune_btxrd.distributed.listeners.dashboard import DashboardRows
from tune_btxrd.distributed.listeners.prometheus import PER_SLOT, PREFIX, Gauges, Lanes
from tune_btxrd.distributed.listeners.tensorboard import EventFiles
from tune_btxrd.distributed.listeners.tolerant import Tolerant
from tune_btxrd.distributed.names import ascii_name, original_name
from tune_btxrd.errors import ConfigError
from tune_btxrd.monitor import MONITORS
from tune_btxrd.pipeline import site
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, TrialRecord, read_search

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")  # MLflow's and Ray's own


def test_a_slot_keeps_its_number_and_a_new_process_takes_over_that_of_a_dead_one():
    lanes = Lanes(2)
    assert [lanes.of("a", "0"), lanes.of("b", "1"), lanes.of("a", "0")] == [1, 2, 1]
    lanes.leave("1")
    assert lanes.of("c", "2") == 2  # b has died: its trial is over, a's is not
    lanes.leave("0")
    lanes.leave("2")
    assert [lanes.of("c", "3"), lanes.of("a", "4")] == [2, 1]
    assert max(lanes.of(f"p{n}", "3") for n in range(20)) <= 2  # however many die


def test_the_gauge_of_states_counts_every_trial_once_whatever_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(tmp_path, make_trial(0, [0.5]), *(make_trial(n, [0.5], state="running") for n in (1, 2)))
    gauges = Gauges(record, monitor=MONITORS["val_loss"], recall="val_recall_a", slots=2)
    shown: dict[str, int] = {}
    monkeypatch.setattr(gauges.states, "set", lambda value, tags: shown.update({tags["state"]: value}))

    def counted() -> dict[str, int]:
        return {words: count for words, count in shown.items() if count}

    record.trials["1"].state = "pruned"
    gauges.ended(record.trials["1"])
    assert counted() == {"complete": 1, "stopped early": 1, "unfinished": 1}
    record.trials["2"].state = "failed"  # told by nobody
    record.trials["3"] = make_trial(3, [0.5], state="running")
    gauges.started(record.trials["3"])
    assert counted() == {"complete": 1, "stopped early": 1, "failed": 1, "unfinished": 1}
    record.trials["3"].state = "paused"
    gauges.paused(record.trials["3"])
    assert counted() == {"complete": 1, "stopped early": 1, "failed": 1, "paused": 1}


def test_the_checkpoints_of_a_trial_go_with_its_end_and_what_appears_again_goes_later(tmp_path: Path) -> None:
    record = make_record(tmp_path, *(make_trial(number, [0.5], state="running") for number in (0, 1)))
    keeper = CheckpointKeeper(tmp_path, record)
    keeper.started(record.trials["0"])
    keeper._rest.until = float("inf")  # the folder was looked through just now, which took long
    for name in ("0.pt", "0.before.pt", "1.pt", "1.before.pt"):
        (tmp_path / name).touch()
    record.trials["0"].state = "pruned"
    keeper.ended(record.trials["0"])
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["1.before.pt", "1.pt"]
    (tmp_path / "0.pt").touch()  # its process was still writing
    keeper._rest.until = 0.0
    keeper.started(record.trials["1"])
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["1.before.pt", "1.pt"]


class Actor:
    """A row's actor that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        call = SimpleNamespace(remote=lambda *given: self.told.append((name, *given)))
        return SimpleNamespace(options=lambda **_: call)


def test_lines_of_a_row_are_sent_together_within_a_while_and_all_before_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = Actor()
    monkeypatch.setattr(DashboardRows, "_start", lambda self, *, rows: actor)
    monkeypatch.setattr("tune_btxrd.distributed.listeners.dashboard.SECONDS", 0.01)
    rows, trial = DashboardRows("s"), make_trial(0, [0.9], state="running")
    rows.started(trial)
    rows.epoch(trial)
    assert [call[0] for call in until(lambda: actor.told[1:])] == ["tell"]  # though nothing else happens
    monkeypatch.setattr("tune_btxrd.distributed.listeners.dashboard.SECONDS", 1000.0)
    rows.epoch(trial)
    rows.epoch(trial)
    rows.ended(trial)
    rows.epoch(trial)  # told too late: its row is closed
    rows.close()
    (_, label, (line,)), (last, _, lines) = actor.told[1:]
    assert (label, last, len(lines)) == ("0", "release", 3) and lines[:2] == [line, line]


class Broken(Listener):
    """Fails at a trial's first epoch."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def started(self, trial: TrialRecord) -> None:
        self.calls.append(trial.label)

    def epoch(self, trial: TrialRecord) -> None:
        raise UnicodeEncodeError("ascii", "\u00f6", 0, 1, "ordinal not in range")


def test_a_view_that_fails_is_said_once_and_ends_no_search(capsys: pytest.CaptureFixture[str]):
    broken = Broken()
    view, trial = (
        Tolerant("Ray's metrics", lambda: broken),
        TrialRecord(label="7", number=7, role="search", config={}, params={}),
    )
    for event in (view.started, view.epoch, view.epoch, view.started, view.noted, view.ended):
        event(trial)
    view.close()
    assert broken.calls == ["7"]
    assert capsys.readouterr().out.count("Ray's metrics will show no more of this search, which goes on") == 1
    Tolerant("TensorBoard", lambda: (tmp := Path("/proc/none")).mkdir() or tmp).started(trial)
    assert "TensorBoard will show no more" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["R\u00f6ntgen", "\u540d", "100% [x] $y", "a\nb", "%C3%B6", "plain-name_1.2", "\udce4"])
def test_names_in_ascii_are_one_to_one(name: str):
    assert ascii_name(name).isascii() and ascii_name(name).isprintable() and original_name(ascii_name(name)) == name


def test_event_files_hold_every_epoch_and_the_hyperparameters(tmp_path: Path):
    record = read_search(make_search(tmp_path / "stub", trials=6))
    EventFiles(record).close()
    for trial in record.trials.values():
        scalars = read_scalars(tmp_path / "stub" / "tensorboard" / trial.label)
        assert [step for step, _ in scalars.get("val_loss", [])] == [row["epoch"] for row in trial.epochs]
        assert [v for _, v in scalars.get("val_recall_malignant", [])] == pytest.approx(
            [row["val_recall_malignant"] for row in trial.epochs], rel=1e-6
        )
    events = read_events(tmp_path / "stub" / "tensorboard" / "0")
    assert events[1].wall_time == record.trials["0"].epochs[0]["time"]
    content = b"".join(event.SerializeToString() for event in events)
    assert b"hparams" in content and b"weight_decay" in content


def test_event_files_of_a_resumed_search_are_whole(tmp_path: Path):
    folder = tmp_path / "stub"
    stub = StubSearch(folder, make_settings(folder)).search(6)
    stub.write(lines=len(stub.lines) // 2)
    EventFiles(read_search(folder)).close()
    stub.write()
    record = read_search(folder)
    EventFiles(record).close()
    steps = [step for step, _ in read_scalars(folder / "tensorboard" / "0")["objective"]]
    assert steps == [row["epoch"] for row in record.trials["0"].epochs]


def test_the_grafana_dashboard_draws_metrics_that_exist():
    text = (ROOT / "deploy" / "grafana.json").read_text()
    known = {f"ray_{PREFIX}{name}" for name in (*PER_SLOT, "trials", "best_score", "epochs_total")}
    assert set(re.findall(rf"ray_{PREFIX}\w+", text)) == known
    assert len(json.loads(text)["panels"]) == 7 and len(text.splitlines()) < 200


@pytest.fixture
def store(tmp_path: Path) -> str:
    pytest.importorskip("mlflow", reason="MLflow is an extra: pip install mlflow-skinny")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def told(record: SearchRecord, uri: str, *, finished: bool) -> None:
    """What Ray would tell of every trial of the record, epochs twice."""
    from tune_btxrd.distributed.listeners.mlflow import MlflowRuns

    spec = SearchSettings.load(record.folder).spec(record.folder)
    runs = MlflowRuns(uri, record, spec)
    for label in record.trials:
        trial: Any = SimpleNamespace(config={"trial": label})
        runs.log_trial_start(trial)
        runs.log_trial_result(1, trial, {})
        runs.log_trial_result(1, trial, {})
        if record.trials[label].ended:
            runs.log_trial_end(trial)
    runs.close(finished=finished)


def test_mlflow_holds_parent_children_params_and_metrics_also_after_a_kill(tmp_path: Path, store: str):
    folder = tmp_path / "stub"
    stub = StubSearch(folder, make_settings(folder)).search(8)
    stub.write(lines=len(stub.lines) // 2)
    told(read_search(folder), store, finished=False)
    parent, before, _ = mlflow_runs(store)
    assert parent.info.status == "KILLED" and parent.info.run_name == "stub"
    assert any(run.info.status == "RUNNING" for run in before.values())

    stub.write()
    record = read_search(folder)
    told(record, store, finished=True)
    parent, children, client = mlflow_runs(store)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["space.lr"] == "1e-05 .. 0.01 (log)" and parent.data.params["dataset"] == "phantom"
    assert parent.data.metrics["best_objective"] == min(t.objective for t in record.search_trials if t.objective)
    assert {label: run.info.run_id for label, run in children.items()}.items() >= {
        label: run.info.run_id for label, run in before.items()
    }.items()
    assert set(children) == set(record.trials)
    for label, trial in record.trials.items():
        run = children[label]
        assert (run.data.tags["tune_btxrd.state"], run.info.run_name) == (trial.state_words, f"trial {label}")
        assert run.data.params["dropout"] == str(trial.config["dropout"])
        history = client.get_metric_history(run.info.run_id, "val_loss")
        assert [(m.step, m.value) for m in history] == [(row["epoch"], row["val_loss"]) for row in trial.epochs]


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path, store: str):
    record = read_search(make_search(tmp_path / "stub", trials=2, odd=False))
    with pytest.raises(ConfigError, match=r"^--mlflow must name a tracking store that answers, but nothing://x: [^\n]+$"):
        told(record, "nothing://x", finished=True)


def test_a_store_that_fails_later_costs_a_warning_not_the_search(
    tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
):
    from tune_btxrd.distributed.listeners.mlflow import MlflowRuns

    record = read_search(make_search(tmp_path / "stub", trials=2, odd=False))
    runs = MlflowRuns(store, record, SearchSettings.load(record.folder).spec(record.folder))
    runs._client.delete_run(runs.parent)
    runs.close(finished=True)
    shown = capsys.readouterr().out
    assert shown.count("MLflow's runs are incomplete") == 1


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="W&B is an extra: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def told_wandb(record: SearchRecord, *, finished: bool, project: str = "lesions") -> None:
    """Every trial of the record told twice to W&B, whose service has ended afterwards, so that its files are whole."""
    import wandb

    from tune_btxrd.distributed.listeners.wandb import WandbRuns

    runs = WandbRuns(project, record, SearchSettings.load(record.folder).spec(record.folder))
    for trial in record.trials.values():
        runs.started(trial)
        runs.epoch(trial)
        if trial.has_ended:
            runs.ended(trial)
            runs.ended(trial)
    runs.close(finished=finished)
    wandb.teardown()


def test_wandb_holds_group_config_and_every_epoch_also_after_a_kill(tmp_path: Path, offline: None):
    folder = tmp_path / "stub"
    stub = StubSearch(folder, make_settings(folder)).search(8)
    stub.write(lines=len(stub.lines) // 2)
    told_wandb(read_search(folder), finished=False)
    half = wandb_runs(folder)
    assert half["search"].preempted and half["search"].exit_code == 1
    assert any(run.preempted for label, run in half.items() if label != "search"), "some trial goes on later"

    ended = [label for label, run in half.items() if run.exit_code == 0]
    for label in ended:  # sent and tidied away meanwhile
        (folder / "wandb" / half[label].folder).rename(tmp_path / label)
    stub.write()
    record = read_search(folder)
    told_wandb(record, finished=True)
    later = wandb_runs(folder)
    assert ended and not set(ended) & set(later), "what was told to its end is not told again"
    runs = {**{label: half[label] for label in ended}, **later}
    search = runs.pop("search")
    assert (search.name, search.group, search.exit_code, search.preempted) == ("stub", "stub", 0, False)
    assert search.config["space"]["lr"] == "1e-05 .. 0.01 (log)" and search.config["dataset"] == "phantom"
    assert search.summary["best_objective"] == min(t.objective for t in record.search_trials if t.objective)
    assert set(runs) == set(record.trials)
    for label, trial in record.trials.items():
        run = runs[label]
        assert (run.name, run.group, run.kind) == (f"trial {label}", "stub", "search")
        assert run.config["dropout"] == trial.config["dropout"]
        assert (run.summary["state"], run.exit_code) == (trial.state_words, int(trial.state in ("diverged", "failed")))
        told = [(row["step"], row["val_loss"]) for row in run.history]
        assert told == [(row["epoch"], row["val_loss"]) for row in trial.epochs]


def test_wandb_is_told_nothing_about_the_machine(tmp_path: Path, offline: None):
    record = read_search(make_search(tmp_path / "stub", trials=2, odd=False))
    told_wandb(record, finished=True)
    sent = b"".join(path.read_bytes() for path in (tmp_path / "stub" / "wandb").glob("offline-run-*/*.wandb"))
    for run in wandb_runs(tmp_path / "stub").values():
        assert run.host == "wandb" and not run.kinds & {
            "environment",
            "files",
            "artifact",
            "output",
            "output_raw",
            "stats",
        }, run.kinds
    files = [path for path in (tmp_path / "stub" / "wandb").glob("offline-run-*/files/*")]
    assert len(sent) > 1000 and not files
    for word in (getpass.getuser(), sys.executable, str(ROOT), str(tmp_path)):
        assert word.encode() not in sent, word


@pytest.mark.parametrize(
    ("mode", "project", "told"),
    [
        ("online", "lesions", "but: No API key configured. Use `wandb login` to log in. `wandb login` logs in; WANDB_MODE="),
        ("offline", "me/lesions", "of at most 128 signs, none of them / "),
        ("disabled", "lesions", "WANDB_MODE=disabled lets nothing be logged"),
    ],
)
def test_what_wandb_cannot_take_is_one_line(
    mode: str, project: str, told: str, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
):
    import wandb

    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    wandb.teardown()  # reads its environment once
    record = read_search(make_search(tmp_path / "stub", trials=2, odd=False))
    with pytest.raises(ConfigError, match=r"^--wandb [^\n]+$") as caught:
        told_wandb(record, finished=True, project=project)
    assert told in str(caught.value)
    wandb.teardown()
    with pytest.raises(ConfigError, match=r"^--wandb [^\n]+$"):  # and before a search has left anything
        site.Trackers(wandb=project).check()


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    site.Trackers(tensorboard=True).check()
    for trackers, cure in ((site.Trackers(wandb="p"), "pip install wandb"), (site.Trackers(mlflow="x"), "mlflow-skinny")):
        with pytest.raises(ConfigError, match=f"but it is not installed: .*{cure}"):
            trackers.check()
