"""A process of many trainings hands memory back where it has grown, and only there."""

import mmap
from types import SimpleNamespace

import pytest

from tune_btxrd.training import memory


def test_memory_is_handed_back_once_it_has_grown_by_a_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    monkeypatch.setattr(memory, "_KEPT", [])
    monkeypatch.setattr(memory, "_glibc", lambda: SimpleNamespace(malloc_trim=trims.append))
    sizes = {100: 0, 119: 0, 121: 1, 90: 1, 108: 1, 109: 2}  # pages after each training -> times handed back by then
    for pages, times in sizes.items():
        monkeypatch.setattr(memory, "_resident_pages", lambda pages=pages: pages)
        memory.release_memory()
        assert len(trims) == times, pages


def test_the_size_is_that_of_this_process() -> None:
    before = memory._resident_pages()
    with mmap.mmap(-1, 64 << 20) as fresh:  # no memory that this process had already
        fresh.write(bytes(len(fresh)))
        grown = memory._resident_pages() - before
    assert grown >= (64 << 20) // mmap.PAGESIZE // 2
