"""Fuzzing of what strangers write or send: seeded cases, damaged content, and what must hold whatever came in.

A harness looks like this, and is repeated alone by the seed that its failure names (`--fuzz-seed 17`):

    def test_journal(fuzz: Fuzz, tmp_path: Path) -> None:
        for case in fuzz.cases(150):
            (tmp_path / "s" / "journal.jsonl").write_bytes(damaged(case, CONTENT))
            with sealed(tmp_path):
                check(run_verb("list", "--storage", str(tmp_path)))

`pytest tests/fuzz --fuzz-seconds 600` goes on with fresh seeds for ten minutes per harness.
"""

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_btxrd.cli.main import main

HOSTILE_TEXTS = (
    *("", " ", "x", "$", "$$x", "$(id)", "`id`", "[b]", "[/x]", "{0}", "{", "%s", "?", "#", "'", '"', "&", "<b>", "\\"),
    *("a\nb", "a\tb", "a,b", "\x00", "\x1b[2J", "\u202e", "\u200b", "\ufeff", "ü", "🦴", "٣", "x" * 200, "x" * 5000),
    *("..", "../../x", "/etc/passwd", "C:\\x", "-x", "--", "nan", "NaN", "inf", "None", "null", "True", "no", "1e5", "0x1F"),
    *("=1+1", "=cmd()", "@SUM(1)", "+ve", "-ve", "benign ", " benign", "NUL", "9" * 400, "file:///etc/passwd", "http://x/y"),
)
ODD_NUMBERS = (0, 1, -1, 1.5, -0.0, 10**30, 10**400, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
ODD_CONTAINERS: tuple[Any, ...] = ([], {}, [1], [[]], {"a": 1}, {"": None}, [None], ["x", 1])
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate")
STARTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


class Case(random.Random):
    """One case: a random generator that knows the seed by which the case is repeated."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.number = seed

    def odd_value(self) -> Any:
        """A value as JSON or YAML may hold it where another one is expected."""
        return self.choice(self.choice(((None, True, False), ODD_NUMBERS, HOSTILE_TEXTS, ODD_CONTAINERS)))


@dataclass(kw_only=True)
class Fuzz:
    """Which cases a harness runs, and which it runs now."""

    first: int | None = None  # seed of the one case to run
    seconds: float | None = None  # until so much time has passed; None: as many cases as the harness asks for
    last: int | None = None  # seed of the case that was handed out last

    def cases(self, count: int) -> Iterator[Case]:
        """`count` cases, always the same; with `seconds` more of them; with `first` that one alone."""
        if self.first is not None:
            yield Case(self.first)
            return
        began, number = time.monotonic(), 0
        while number < count or (self.seconds is not None and time.monotonic() - began < self.seconds):
            self.last = number
            yield Case(number)
            number += 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb did: its exit code (or the exception that left it) and all that it printed."""

    code: int | str
    out: str
    error: str


def run_verb(*arguments: str) -> Outcome:
    """One command line in this process."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code: int | str = main(arguments)
        except SystemExit as leaving:  # argparse
            code = leaving.code if isinstance(leaving.code, int) else str(leaving.code)
        except Exception as raised:
            code = f"raised {raised!r}"
    return Outcome(code=code, out=out.getvalue(), error=error.getvalue())


def check(outcome: Outcome) -> None:
    """A verb must end with 0, or with 2 and one line that says why (argparse: its usage, then that line)."""
    assert outcome.code in (0, 2), f"exit code {outcome.code}: {outcome.error[-2000:]}"
    assert "Traceback" not in outcome.error, outcome.error[-2000:]
    if outcome.code == 2:
        said = outcome.error.strip().splitlines()
        assert said, "exit code 2 without a word"
        assert len(said) == 1 or said[0].startswith("usage:"), outcome.error[:2000]


def damaged(case: Case, content: bytes) -> bytes:
    """Content with a part lost, changed, zeroed, repeated or put in."""
    if not content:
        return case.randbytes(case.randrange(20))
    start = case.randrange(len(content))
    end = min(len(content), start + case.choice((1, 3, 50, 2000)))
    piece = content[start:end]
    flipped = bytes(byte ^ (1 << case.randrange(8)) for byte in piece)
    changed = case.choice((b"", bytes(len(piece)), flipped, piece + piece, case.randbytes(len(piece)), None))
    return content[:start] if changed is None else content[:start] + changed + content[end:]


def changed_json(case: Case, value: Any) -> Any:
    """JSON-like data with one value, anywhere in it, lost, renamed or of another kind; `value` itself stays as it is."""
    if isinstance(value, dict) and value and case.random() < 0.9:
        key = case.choice(list(value))
        rest = {name: item for name, item in value.items() if name != key}
        doing = case.random()
        if doing < 0.2:
            return rest
        if doing < 0.3:
            return rest | {case.choice(HOSTILE_TEXTS): value[key]}
        return {name: changed_json(case, item) if name == key else item for name, item in value.items()}
    if isinstance(value, list) and value and case.random() < 0.8:
        index = case.randrange(len(value))
        return [changed_json(case, item) if place == index else item for place, item in enumerate(value)]
    return case.odd_value()


@dataclass
class _Guard:
    """What the audit hook of this process watches; Python has no way to take a hook away again."""

    active: bool = False
    folders: tuple[str, ...] = ()
    programs: bool = False
    found: list[str] = field(default_factory=list)
    is_hooked: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            mode, flags = arguments[1], arguments[2]
            if set(mode or "") & set("wxa+") or (flags or 0) & WRITING:
                self._check_path(event, arguments[0])
        elif event in CHANGES:
            self._check_path(event, arguments[0])
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            self.found.append(f"connected to {arguments[1]}")
            raise OSError("the network is out of reach in a fuzz test")
        elif event in STARTS and not self.programs:
            self.found.append(f"{event} {arguments[:2]}")

    def _check_path(self, event: str, name: str | bytes) -> None:
        path = os.path.realpath(os.fsdecode(name))
        is_there = event == "os.mkdir" and Path(path).is_dir()
        if not (is_there or path == os.devnull or path.startswith(self.folders) or "__pycache__" in path):
            self.found.append(f"{event} {path}")


_GUARD = _Guard()


@contextlib.contextmanager
def sealed(*folders: Path, programs: bool = False) -> Iterator[None]:
    """Within the block nothing may be written outside the folders, nobody called over the network, no program started.

    Args:
        programs: programs may be started after all (`git` for the environment of a search).

    Libraries make caches at their first use: run the verb once before.
    """
    if not _GUARD.is_hooked:
        sys.addaudithook(_hook(_GUARD))
        _GUARD.is_hooked = True
    _GUARD.folders, _GUARD.programs = tuple(os.path.realpath(folder) for folder in folders), programs
    _GUARD.found.clear()
    _GUARD.active = True
    try:
        yield
    finally:
        _GUARD.active = False
    assert not _GUARD.found, "; ".join(_GUARD.found[:5])


def _hook(guard: _Guard) -> Callable[[str, tuple[Any, ...]], None]:
    return guard.__call__
