"""Where the time went, on journals whose times are made by hand."""

from pathlib import Path

from pytest import approx

from tests.support.searches import make_record, make_trial
from tune_btxrd.report.slots import slot_use


def stay(number: int, begin: float, epochs: list[float], end: float, slot: str = "vm:1", **fields):
    """A trial handed out at `begin`, with epochs of 8 s training and 1 s validation that end at these times."""
    trial = make_trial(number, [1.0] * len(epochs), started=begin, ended=end, **fields)
    for row, time in zip(trial.epochs, epochs, strict=True):
        row.update(time=time, train_seconds=8.0, val_seconds=1.0, slot=slot)
    return trial


def test_every_second_of_a_slot_is_told_apart(tmp_path: Path):
    record = make_record(tmp_path, stay(0, 0, [14, 24], 25), stay(1, 30, [40], 40))
    record.sessions.append({"time": 0})
    use = slot_use(record)
    assert use.lanes == 1
    assert use.seconds == approx({"training": 24, "validation": 3, "start": 6, "between": 2, "idle": 5})
    assert use.share("training") == approx(24 / 40)
    assert [(s.trial.label, s.begin, s.first, s.end) for s in use.spans] == [("0", 0, 5, 25), ("1", 30, 31, 40)]


def test_two_processes_at_once_are_two_slots_and_a_later_one_takes_the_free_lane(tmp_path: Path):
    trials = [stay(0, 0, [10], 10), stay(1, 0, [10], 30, slot="vm:2"), stay(2, 12, [25], 30, slot="vm:3")]
    use = slot_use(make_record(tmp_path, *trials))
    assert [span.lane for span in use.spans] == [0, 1, 0]


def test_time_between_sessions_is_nobodys(tmp_path: Path):
    record = make_record(tmp_path, stay(0, 0, [10, 110], 110))
    record.sessions += [{"time": 0}, {"time": 100}]
    use = slot_use(record)
    assert use.downtime == ((10, 100),)
    assert sum(use.seconds.values()) == approx(20)
    assert [(s.begin, s.end) for s in use.spans] == [(0, 10), (100, 110)]


def test_a_paused_trial_has_no_slot(tmp_path: Path):
    """Trial 0 pauses after its first epoch, goes on in another process, and is given up long after its second one."""
    trial = stay(0, 0, [10, 60], 90, pauses=[1, 2], promotions=[1], state="pruned")
    trial.epochs[1]["slot"] = "vm:2"
    use = slot_use(make_record(tmp_path, trial))
    assert [(s.begin, s.first, s.end) for s in use.spans] == [(0, 1, 10), (51, 51, 60)]
    assert sum(use.seconds[work] for work in ("training", "validation", "start", "between")) == approx(19)


def test_a_search_without_an_epoch_has_used_no_slot(tmp_path: Path):
    assert slot_use(make_record(tmp_path)) is None
