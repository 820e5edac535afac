"""`submit` against a Ray on this machine: what is sent, what the job says, how it ends."""

import argparse
import re
from pathlib import Path

import pytest

from benchmarks.kill import Arena
from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.cli.parser import build_parser
from tune_btxrd.cli.submit import entrypoint, runtime_env, stage
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.record import read_search


def flags_of(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["submit", *arguments])


def test_only_our_code_and_named_files_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("trials: 1\n")
    for name in ("ray_results", "checkpoints", ".venv", "BTXRD"):
        Path(name).mkdir()
    job = tmp_path / "job"
    there = stage(job, flags_of("--space", "mine.yaml", "--storage", "/shared/ray_results", "--name", "first"))
    assert {path.name for path in job.iterdir()} == {"tune_btxrd", "search_spaces", "requirements.txt", "files"}
    assert not list(job.rglob("__pycache__")) and (job / "files" / "space" / "mine.yaml").read_text() == "trials: 1\n"
    assert there.space == Path("files/space/mine.yaml") and there.checkpoints == Path("/shared/checkpoints")


def test_the_job_runs_what_was_asked_for(tmp_path: Path) -> None:
    asked = ["--data", "/shared/BTXRD", "--storage", "s3://bucket/x", "--name", "a b", "--trials", "4", "--no-pretrained"]
    there = stage(tmp_path / "job", flags_of(*asked, "--resume", "--packages", "--detach", "--address", "http://head:8265"))
    command = entrypoint(there)
    assert command.startswith("python -m tune_btxrd run --address auto --data /shared/BTXRD --storage s3://bucket/x")
    assert command.endswith("--name 'a b' --resume") and "--trials 4" in command and "--no-pretrained" in command
    assert "pip" not in runtime_env(tmp_path / "job", packages=False)
    assert runtime_env(tmp_path / "job", packages=True)["pip"].endswith("/requirements.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--storage of a job must outlive it"),
        (("--storage", "/shared/x", "--data", "BTXRD"), "--data of a job must be an absolute path on the cluster"),
        (("--storage", "s3://k:s@bucket/x"), "must not hold keys"),
    ],
)
def test_paths_that_mean_nothing_there_are_refused(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        stage(tmp_path / "job", flags_of(*arguments))


def test_no_server_is_a_mistake_with_a_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--address", "http://127.0.0.1:9", "--storage", "/x"]) == 2
    assert "A Ray dashboard must answer at --address http://127.0.0.1:9" in capsys.readouterr().err


def submitted(head: Arena, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `submit` here."""
    code = main(["submit", "--address", f"http://{head.cluster.webui_url}", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_job_that_fails_is_exit_code_1_with_its_reason(
    head: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = submitted(head, capsys, "--storage", str(tmp_path), "--data", str(tmp_path / "absent"))
    assert code == 1
    assert re.search(r"Job absent-\S+ failed: The dataset folder must exist, but there is none at", told)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_jobs_log_is_followed_and_its_results_appear(
    head: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--phantom-count", "90", "--phantom-size", "96", "--image-size", "32", "--backbone", "test_efficientnet"]
    short = [
        "--space",
        str(ROOT / "tests" / "support" / "small.yaml"),
        "--trials",
        "2",
        "--epochs",
        "1",
        "--confirm",
        "0",
        "--slots",
        "1",
    ]
    places = ["--storage", str(tmp_path / "ray_results"), "--cache", str(tmp_path / "cache"), "--splits", "stratified"]
    code, shown, told = submitted(head, capsys, "--name", "sent", *small, *short, *places)
    assert code == 0, shown + told
    assert "Search sent: 2 trials" in shown and "Winner: trial" in shown
    assert [trial.state for trial in read_search(tmp_path / "ray_results" / "sent").search_trials] == ["complete"] * 2
    assert (tmp_path / "checkpoints" / "sent" / "best_stratified.pt").is_file()
    job = re.search(r"Job (\S+) sent", shown)
    assert job and submitted(head, capsys, "--status", job[1])[1].startswith(f"{job[1]}: SUCCEEDED")
