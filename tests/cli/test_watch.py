"""The live view: on a finished, a running, a killed and a growing search, from the journal alone."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.reports import BEGAN, StubSearch, make_search, make_settings
from tests.support.searches import make_record, make_repeat, make_spec, make_trial
from tune_btxrd.cli.list import list_searches
from tune_btxrd.cli.watch import View, shown_trials, spark_line, watch, where_lines
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.pipeline.place import Place
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.pace import Follower, is_finished, pace
from tune_btxrd.search.record import read_search


def half_way(folder: Path, share: float = 0.5) -> StubSearch:
    """A search that is in the middle of its trials."""
    stub = StubSearch(folder, make_settings(folder)).search(24)
    stub.write(lines=int(share * len(stub.lines)), half='{"event": "epo')
    return stub


def view(folder: Path, now: float) -> View:
    settings = SearchSettings.load(folder)
    return View(Follower(folder), settings.spec(folder), settings, place=place(folder), now=lambda: now)


def place(folder: Path) -> Place:
    return Place(name=folder.name, storage=str(folder.parent))


def last_time(folder: Path) -> float:
    return max(row["time"] for trial in read_search(folder).trials.values() for row in trial.epochs)


def test_a_curve_is_a_line_of_blocks():
    assert spark_line(make_trial(0, [1.0, 0.5, 0.0])) == "█▅▁"
    assert spark_line(make_trial(0, [1.0])) == "▁"
    assert spark_line(make_trial(0, [1.0, float("nan"), 0.0])) == "█!▁"
    assert len(spark_line(make_trial(0, [1.0 / n for n in range(1, 90)]))) == 16


def test_running_trials_come_first_and_of_200_the_best_are_shown(tmp_path: Path):
    trials = [make_trial(number, [1.0 + number]) for number in range(200)]
    trials[150].state = "running"
    assert [t.number for t in shown_trials(make_record(tmp_path, *trials))] == [150, *range(8)]


def test_finished_means_all_repeats_are_there(tmp_path: Path):
    spec = make_spec(trials=2, confirm=1, repeats=2)
    trials = [make_trial(0, [2.0]), make_trial(1, [1.0])]
    repeats = [make_repeat(of, repeat, [1.5]) for of in (0, 1) for repeat in (1, 2)]
    assert not is_finished(make_record(tmp_path), spec)
    assert not is_finished(make_record(tmp_path, *trials), spec)
    assert not is_finished(make_record(tmp_path, *trials, *repeats[:3]), spec)
    assert is_finished(make_record(tmp_path, *trials, *repeats), spec)
    repeats[3].state = "running"
    assert not is_finished(make_record(tmp_path, *trials, *repeats), spec)
    assert is_finished(make_record(tmp_path, *trials), make_spec(trials=2, confirm=0))


def test_a_running_search_says_what_is_left(tmp_path: Path):
    half_way(tmp_path / "stub")
    lines = view(tmp_path / "stub", last_time(tmp_path / "stub") + 5).lines(read_search(tmp_path / "stub"))
    assert "unfinished of 24 trials" in lines[0]
    assert lines[1].startswith("about ")
    assert lines[1].endswith("left")


def test_a_silent_search_was_interrupted(tmp_path: Path):
    half_way(tmp_path / "stub")
    lines = view(tmp_path / "stub", last_time(tmp_path / "stub") + 7200).lines(read_search(tmp_path / "stub"))
    assert lines[1].startswith(
        "No news for 2.0 h: it was interrupted. Go on with: python -m tune_btxrd run --name stub --resume --storage /"
    )


def test_list_and_watch_agree_on_a_dead_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    half_way(tmp_path / "dead")
    make_search(tmp_path / "done", trials=4, name="done")
    list_searches(str(tmp_path))
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.count("│") > 3}
    assert "interrupted: " in rows["dead"] and " unfinished" in rows["dead"]
    assert "finished: " in rows["done"] and " complete" in rows["done"]
    assert (tmp_path / "dead" / "trials.csv").is_file()
    watch(place(tmp_path / "dead"))
    shown = capsys.readouterr().out
    assert "it was interrupted" in shown
    assert "stopped early" in shown and "pruned" not in shown


def test_a_search_before_its_first_session_is_starting_not_silent_since_1970(tmp_path: Path):
    half_way(tmp_path / "new").write(lines=0)
    written = (tmp_path / "new" / "search.json").stat().st_mtime
    shown = view(tmp_path / "new", now=written + 60)
    assert shown.lines(shown.follower.record)[-1] == "time left: known after the first epoch"
    late = view(tmp_path / "new", now=written + 3600)
    assert "No news for 60 min: it was interrupted" in late.lines(late.follower.record)[-1]


def test_time_left_by_hand(tmp_path: Path):
    """One trial of 4 epochs ended, 10 s an epoch after 300 s until its slot trained; 3 trials are to come."""
    trial = make_trial(0, [1.0] * 4, started=0.0, ended=340.0, values={"train_seconds": 9.0, "val_seconds": 1.0})
    for row in trial.epochs:
        row["time"] = 300.0 + 10.0 * row["epoch"]
    record = make_record(tmp_path, trial)
    record.sessions.append({"time": 0.0})
    speed = pace(record, make_spec(trials=4, confirm=0, scheduler="none"), now=345.0)
    assert (speed.silence, speed.is_silent) == (5.0, False)
    # 40 s of slot time held 40 s of work; the prior is 110 s for the work of ten epochs
    rate = 10.0 * (40 + 110) / (40 + 100)
    assert speed.left == pytest.approx(3 * 4 * rate)
    spec = make_spec(trials=4, confirm=1, repeats=2, scheduler="none")
    repeats = (pace(record, spec, now=345.0).left or 0) - 3 * 4 * rate  # they come after the budget
    record.sessions.append({"time": 0.0, "deadline": 400.0, "epoch_budget": None})
    assert pace(record, spec, now=345.0).left == pytest.approx(55 + repeats)
    assert pace(record, spec, now=500.0).left == pytest.approx(repeats)
    record.sessions.append({"time": 0.0, "deadline": None, "epoch_budget": 9})
    assert pace(record, spec, now=345.0).left == pytest.approx(5 * rate + repeats)


def test_the_record_grows_with_the_journal(tmp_path: Path):
    stub = half_way(tmp_path / "stub", 0.3)
    follower = Follower(tmp_path / "stub")
    before = len(follower.record.trials)
    stub.write(lines=int(0.9 * len(stub.lines)))
    assert len(follower.update().trials) > before
    assert {t.label: len(t.epochs) for t in follower.record.trials.values()} == {
        t.label: len(t.epochs) for t in read_search(tmp_path / "stub").trials.values()
    }
    stub.write(lines=10)  # restored from an older copy
    assert len(follower.update().trials) == len(read_search(tmp_path / "stub").trials)


def test_a_damaged_line_is_named(tmp_path: Path):
    half_way(tmp_path / "stub")
    follower = Follower(tmp_path / "stub")
    with (tmp_path / "stub" / "journal.jsonl").open("a") as file:
        file.write("no json\n")
    follower.update()  # perhaps what a power cut left: the next session cuts it
    with (tmp_path / "stub" / "journal.jsonl").open("a") as file:
        file.write('{"event": "note", "time": 1, "trial": "0", "text": "behind it"}\n')
    with pytest.raises(ResultError, match=r"must be an event of its search, but line \d+ is no JSON object"):
        follower.update()


def test_without_a_terminal_the_table_comes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    half_way(tmp_path / "stub")
    watch(place(tmp_path / "stub"))
    shown = capsys.readouterr().out
    assert "Search stub" in shown
    assert "interrupted" in shown  # its times are long gone
    assert "\x1b" not in shown


def test_names_in_the_table_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "[copy]"
    StubSearch(folder, make_settings(folder, name="[copy]", classes=("a", "b", "[/x]"))).search(6).write()
    watch(place(folder))
    shown = capsys.readouterr().out
    assert "Search [copy]" in shown and "[/x] recall" in " ".join(shown.split())


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ResultError, match="No search called"):
        watch(place(tmp_path / "nothing"))
    half_way(tmp_path / "stub")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install optuna-dashboard"):
        watch(place(tmp_path / "stub"), dashboard=True)
    settings = json.loads((tmp_path / "stub" / "search.json").read_text()) | {"kind": "train"}
    (tmp_path / "stub" / "search.json").write_text(json.dumps(settings))
    with pytest.raises(ResultError, match="without a search"):
        watch(place(tmp_path / "stub"))


def test_addresses_are_told(tmp_path: Path):
    record = make_record(tmp_path)
    assert where_lines(record, None) == ["Optuna dashboard: pip install optuna-dashboard, then watch again"]
    record.sessions.append({"time": BEGAN, "dashboard": "http://127.0.0.1:8265"})
    assert where_lines(record, "http://127.0.0.1:1")[0].startswith("Ray dashboard:    http://127.0.0.1:8265")


def test_on_a_terminal_it_follows_until_the_search_has_finished(tmp_path: Path):
    """A pseudo-terminal, a journal that grows to its end: the view ends by itself."""
    folder = make_search(tmp_path / "stub", trials=6, odd=False)
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[: len(lines) // 2]))
    program = (
        "import sys; from tune_btxrd.cli.watch import watch; from tune_btxrd.pipeline.place import Place; "
        "watch(Place(name=sys.argv[2], storage=sys.argv[1]), dashboard=False, refresh=0.1)"
    )
    driver, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder.parent), folder.name],
        stdout=terminal,
        stderr=terminal,
        stdin=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(terminal)
    seen = b""
    while b"Search stub" not in seen:
        seen += os.read(driver, 65536)
    assert process.poll() is None
    time.sleep(0.3)
    journal.write_text("".join(lines))
    try:
        while chunk := os.read(driver, 65536):
            seen += chunk
    except OSError:  # the terminal closed with the process
        pass
    os.close(driver)
    assert process.wait(timeout=30) == 0
    assert b"Finished. Next: python -m tune_btxrd report stub" in seen
