"""A search whose driver, processes and nodes are killed: nothing lost or counted twice. Long form: benchmarks/kill.py."""

import shutil
import signal
from pathlib import Path

import pytest

from benchmarks import kill
from benchmarks.kill import Arena, Case, Kill
from benchmarks.kill_driver import made_up_loss, search_spec
from tests.support.searches import make_conductor, make_folder, make_rows
from tune_btxrd.distributed.trial_checkpoint import before
from tune_btxrd.search.conductor import PlannedTrial
from tune_btxrd.search.journal import read_events
from tune_btxrd.search.record import read_search

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend

UNHARMED = Case(seed=0, slots=1, kills=())


@pytest.fixture(scope="module")
def whole(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequential search that nobody killed."""
    folder = tmp_path_factory.mktemp("kills") / "whole"
    assert kill.play(UNHARMED, folder, arena) == ([], 0)
    return folder


@pytest.mark.parametrize("seed", [0, 2])  # nodes and processes, one slot; a driver and a node, two slots
def test_kills_at_random_moments(seed: int, arena: Arena, whole: Path, tmp_path: Path) -> None:
    case = kill.make_case(seed)
    wrong, struck = kill.play(case, tmp_path / "killed", arena)
    assert not wrong and struck >= 1
    if case.slots == 1:
        assert kill.facts(tmp_path / "killed") == kill.facts(whole)


def promoted(folder: Path) -> list[tuple[object, ...]]:
    """What a sequential search with promotion must come to: its conductor, without Ray."""
    conductor = make_conductor(make_folder(folder), search_spec(kill.TRIALS, promote=True))
    while isinstance(planned := conductor.next(), PlannedTrial):
        trial, values = conductor.record.trials[planned.label], planned.config.to_dict()
        while not trial.has_ended and trial.state != "paused":
            losses = [made_up_loss(values, epoch) for epoch in range(1, len(trial.epochs) + 2)]
            row = make_rows(losses, stop="budget" if len(losses) == planned.config.epochs else "")[-1]
            conductor.pauses(planned.label, row)
            conductor.epoch(planned.label, row)
            if row["stop"]:
                conductor.end(planned.label, state="complete", reason="ran its full budget")
    return kill.facts(folder)


def test_paused_trials_survive_the_driver_and_their_slot(arena: Arena, tmp_path: Path) -> None:
    """Both die while a trial is paused: none is lost or run twice, and what goes on needs no process of its own."""
    kills = (Kill(kind="driver", line=7, delay=0.0), Kill(kind="worker", line=14, delay=0.0))
    folder = tmp_path / "paused"
    wrong, struck = kill.play(Case(seed=0, slots=1, kills=kills, promote=True), folder, arena)
    assert not wrong and struck == 2
    assert kill.facts(folder) == promoted(tmp_path / "expected")
    kinds = [event["event"] for event in read_events(folder)]
    assert "pause" in kinds[: kinds.index("session", 1)] and kinds.count("promote") > kinds.count("end") / 2
    processes = {row["slot"] for trial in read_search(folder).search_trials for row in trial.epochs}
    assert len(processes) <= 1 + struck


def killed_at(line: int, folder: Path, arena: Arena, *, real: bool = False) -> bytes:
    """A sequential search whose driver was killed; its journal as it was left."""
    driver = kill.start(folder, UNHARMED, arena, real=real)
    assert kill.reached(folder / kill.FILE, line, driver)
    driver.kill()
    driver.communicate()
    return (folder / kill.FILE).read_bytes()


def test_a_moved_search_with_a_broken_study_goes_on_with_the_same_numbers(arena: Arena, whole: Path, tmp_path: Path) -> None:
    known = killed_at(9, tmp_path / "before", arena)
    after = tmp_path / "elsewhere" / "after"
    shutil.copytree(tmp_path / "before", after)
    shutil.rmtree(tmp_path / "before")
    (after / "optuna.db").write_bytes(b"SQLite format 3\x00 and then nothing of the kind")
    with (after / kill.FILE).open("ab") as journal:
        journal.write(b'{"event": "epoch", "trial": "0", "epo')
    wrong, _ = kill.play(UNHARMED, after, arena)
    assert not wrong and (after / kill.FILE).read_bytes().startswith(known[: known.rfind(b"\n") + 1])
    assert kill.facts(after) == kill.facts(whole)


def test_real_trainings_go_on_from_a_damaged_checkpoint_and_after_a_killed_process(arena: Arena, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    killed_at(5, folder, arena, real=True)  # session, start, three epochs
    assert kill.damaged_checkpoints(folder) == []
    last = folder / kill.CHECKPOINTS / "0.pt"
    whole = last if last.exists() else before(last)  # the kill may fall between two files
    last.write_bytes(whole.read_bytes()[:1000])
    wrong, struck = kill.play(
        Case(seed=0, slots=1, kills=(Kill(kind="worker", line=12, delay=0.0),)), folder, arena, real=True
    )
    assert not wrong and struck == 1
    notes = [note for trial in read_search(folder).search_trials for note in trial.notes]
    assert f"checkpoint {last.name} damaged: went on from epoch" in notes[0]
    assert any(note.startswith("failed, tried again from its checkpoint: its process was killed") for note in notes)


def test_sigterm_saves_the_state_and_says_how_to_go_on(arena: Arena, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "asked"
    driver = kill.start(folder, UNHARMED, arena)
    assert kill.reached(folder / kill.FILE, 7, driver)
    driver.send_signal(signal.SIGTERM)
    shown, _ = driver.communicate(timeout=kill.PATIENCE)
    assert driver.returncode == 143 and "Go on with" in shown and "Traceback" not in shown
    assert (folder / "trials.csv").is_file() and len(read_search(folder).sessions) == 1
    assert kill.play(UNHARMED, folder, arena) == ([], 0) and kill.facts(folder) == kill.facts(whole)
