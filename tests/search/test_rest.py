"""Work that grows with the search rests so many times as long as it took."""

import pytest

from tune_btxrd.search import listener
from tune_btxrd.search.listener import Rest


def test_work_of_two_seconds_that_rests_ten_times_is_done_again_after_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, done = [100.0], list[float]()
    monkeypatch.setattr(listener.time, "monotonic", lambda: clock[0])

    def work() -> None:
        done.append(clock[0])
        clock[0] += 2.0

    rest = Rest(10)
    for moment in (100.0, 102.0, 121.9, 122.0, 143.0, 144.0):
        clock[0] = moment
        rest.after(work)
    assert done == [100.0, 122.0, 144.0]
