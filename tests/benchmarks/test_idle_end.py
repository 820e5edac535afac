"""Made-up time of `benchmarks/idle_end.py`: what is idle, busy and early, and that early repeats change no winner."""

from benchmarks.idle_end import Before, Clock, play, row, specs
from tune_btxrd.search.conductor import Conductor


def test_early_repeats_leave_less_idle_time_and_the_same_winner() -> None:
    of = next(iter(specs("promote", seeds=1)))
    before, after = play(of, Before, slots=8), play(of, Conductor, slots=8)
    assert before.winner == after.winner and before.early == 3 < after.early
    assert 0 < after.idle < before.idle and after.ended < before.ended and after.waiting < before.waiting
    shown = row("promote", 8, [(before, after)])
    assert shown["same winner"] == "1 of 1" and shown["ratio"] == f"{after.ended / before.ended:.3f}"


def test_an_epoch_lasts_as_long_whenever_and_wherever_it_runs() -> None:
    first, second = Clock(1), Clock(1, now=5.0)
    lasts = first.run("7r1", 3)
    assert 0.9 <= lasts <= 1.1 and second.run("7r1", 3) == lasts and first.run("7r1", 4) != lasts
    assert second.due == [(5.0 + lasts, "7r1")]
