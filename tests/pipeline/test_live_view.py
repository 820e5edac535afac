"""What a search says while it runs: calm, bounded, as talkative as asked."""

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.reports import make_search
from tune_btxrd import console
from tune_btxrd.console import NORMAL, QUIET, VERBOSE, heading, live_block, progress, say, set_verbosity, tell, warn
from tune_btxrd.pipeline.live_view import ROWS, SearchProgress
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.record import read_search

WIDTH = 120


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_search(tmp_path_factory.mktemp("progress") / "stub", trials=200)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What stands in a log file."""
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, soft_wrap=True, width=WIDTH))
    yield out
    set_verbosity(NORMAL)


def play(folder: Path, *, until: int | None = None) -> SearchProgress:
    """The view of a search whose journal is told again, event by event, as far as the first `until` ends."""
    spec = SearchSettings.load(folder).spec(folder)
    view = SearchProgress(spec, positive_class="Malignant", recall="val_recall_malignant", asked=0.0)
    for number, trial in enumerate(read_search(folder).search_trials):
        view.started(trial)
        if trial.epochs:
            view.epoch(trial)
        if until is None or number < until:
            view.ended(trial)
    return view


def drawn(view: SearchProgress) -> str:
    """The live block as it stands on a terminal."""
    out = io.StringIO()
    Console(file=out, width=WIDTH).print(view.render())
    return out.getvalue()


def test_200_trials_are_200_lines_in_a_log_file(large: Path, shown: io.StringIO):
    play(large)
    first, *lines = shown.getvalue().splitlines()
    assert first.startswith("  first training step ") and len(lines) == 200
    assert lines[0].startswith("  trial    0 ") and "lr=0.001" in lines[0]
    assert lines[13].startswith("  trial   13 failed") and "out of memory" in lines[13]
    assert "\x1b" not in shown.getvalue()


def test_an_undefined_recall_is_a_dash_while_it_runs_and_at_its_end(large: Path, shown: io.StringIO):
    view = play(large, until=0)
    for trial in view.trials.values():
        trial.epochs[:] = [{**row, "val_recall_malignant": math.nan} for row in trial.epochs]
    assert " nan" not in drawn(view) and re.search(r"\d/\d+ +[\d.]+ +- +[\d.]+", drawn(view))
    view.ended(next(trial for trial in view.trials.values() if trial.best))
    assert "Malignant recall -" in shown.getvalue() and " nan" not in shown.getvalue()


def test_the_live_block_stays_small_however_many_slots_there_are(large: Path, shown: io.StringIO):
    view = play(large, until=100)  # a hundred run
    lines = drawn(view).splitlines()
    assert len(lines) == 1 + ROWS + 2
    assert lines[-2].startswith(f"and {100 - ROWS} more running; 100 of 200 trials ended; best so far: trial ")
    assert lines[-1].startswith("about ") and lines[-1].strip().endswith("left")


def test_on_a_terminal_the_time_left_stands_in_the_block_alone(large: Path, monkeypatch: pytest.MonkeyPatch):
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, force_terminal=True, width=WIDTH))
    play(large, until=5)
    _, *lines = out.getvalue().splitlines()
    assert sum(line.startswith("  trial ") for line in lines) == 5 and not any("left" in line for line in lines)


def test_the_start_of_the_slots_says_nothing_of_the_time_left(large: Path, shown: io.StringIO):
    spec, trial = SearchSettings.load(large).spec(large), read_search(large).search_trials[0]
    view = SearchProgress(spec, positive_class="Malignant", recall="val_recall_malignant", asked=0.0)
    trial.epochs[-1].update(train_seconds=0.0, val_seconds=0.0)
    view.started(trial)
    view.epoch(trial)
    assert re.fullmatch(r"about \d\d\.\d h left", view._left())  # of the 25 that one slot needs


def test_a_resumed_search_counts_what_was_done_before(large: Path):
    spec, record = SearchSettings.load(large).spec(large), read_search(large)
    view = SearchProgress(spec, positive_class="Malignant", recall="val_recall_malignant", asked=0.0, past=record)
    assert drawn(view).splitlines()[1].startswith("200 of 200 trials ended; repeat 9 of 9; best so far: trial ")


def test_a_class_in_the_block_is_no_markup(large: Path, shown: io.StringIO):
    spec = SearchSettings.load(large).spec(large)
    view = SearchProgress(spec, positive_class="[copy]", recall="val_recall_malignant", asked=0.0)
    assert "[copy] recall" in drawn(view)


def test_quiet_leaves_outcomes_and_warnings(large: Path, shown: io.StringIO):
    set_verbosity(QUIET)
    heading("Search")
    tell("on the way")
    play(large)
    with progress("bar") as advance, live_block(lambda: "block") as refresh:
        advance(1, 2)
        refresh()
    say("outcome")
    warn("careful")
    assert shown.getvalue().splitlines() == ["outcome", "! careful"]


def test_verbose_adds_a_line_per_epoch(large: Path, shown: io.StringIO):
    set_verbosity(VERBOSE)
    play(large, until=0)
    first = read_search(large).search_trials[0]
    loss = first.epochs[-1]["val_loss"]
    assert f"trial    0 epoch {first.epochs[-1]['epoch']}/27  val loss {loss:.4f}  Malignant recall" in shown.getvalue()
