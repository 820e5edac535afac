"""Bandit on the package: every finding is mended or has its reason, and no reason outlives its finding."""

import pytest

from tests.support import security

pytest.importorskip("bandit", reason="bandit comes with the dev extra")


def test_nothing_is_found_that_has_no_reason() -> None:
    assert security.unexplained() == []


def test_a_new_finding_and_an_old_reason_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {("a.py", "B602"): ["a.py:1: shell=True"], ("b.py", "B608"): ["b.py:1: SQL"]}
    monkeypatch.setattr(security, "found", lambda: places)
    monkeypatch.setattr(security, "KEPT", {("b.py", "B608"): (2, "one is gone")})
    assert [line.partition(":")[0] for line in security.unexplained()] == ["a.py", "tune_btxrd/b.py"]
