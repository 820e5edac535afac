"""The GPU benchmark, rehearsed: every part runs at tiny sizes on a CPU, and one that fails leaves the others alone."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_parts, outcome

IN_PROCESS = ("precision", "captured", "resident", "epoch", "volume")


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_part_gives_a_table(name: str) -> None:
    rows = gpu_parts.PARTS[name][0](gpu_parts.TINY)
    assert rows
    assert all(isinstance(row, dict) and row for row in rows)


@pytest.mark.slow
def test_ours_and_the_tutorial_way_search_the_same_space() -> None:
    (row,) = gpu_parts.search(gpu_parts.TINY)
    assert row["trials"] == gpu_parts.TINY.trials
    assert row["tutorial to ours"] > 0


def test_every_part_has_its_place_in_the_order() -> None:
    assert tuple(gpu_parts.PARTS) == gpu.NAMES


def test_what_fails_hangs_or_cannot_be_told_is_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"precision": {"failed": "AssertionError: 2 is not 1"}, "resident": {"rows": [{"batch": 8}]}}
    monkeypatch.setattr(gpu, "in_own_process", lambda name, **_: told.get(name, {"skipped": "no GPU"}))
    monkeypatch.setattr(outcome, "RESULTS", tmp_path)
    assert gpu.main(["--rehearse", "--parts", "precision", "memory", "resident"]) == 1
    text = (tmp_path / "gpu_rehearsal.md").read_text()
    assert "failed: AssertionError: 2 is not 1" in text
    assert "skipped: no GPU" in text
    assert "| 8 |" in text
    assert json.loads((tmp_path / "gpu_rehearsal.json").read_text())["parts"]["memory"] == {"skipped": "no GPU"}


@pytest.mark.slow
def test_a_part_that_hangs_is_ended_with_all_that_it_started() -> None:
    found = gpu.in_own_process("precision", rehearse=True, seconds=0.2)
    assert found == {"failed": "not done after 0.2 s"}
    assert gpu.in_own_process("memory", rehearse=True, seconds=300)["skipped"].startswith("a CPU's memory")
