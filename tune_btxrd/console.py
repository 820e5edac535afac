"""What a person sees: one live block on a terminal, one line per event in a log file. Nothing else in the project prints.

-q      outcomes and warnings            say, warn, show
        and what happens on the way      tell, heading, progress, live_block
-v      and every epoch, and Ray's log   tell_more
"""

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tune_btxrd.errors import printable

OUT = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
QUIET, NORMAL, VERBOSE = -1, 0, 1
LINE_SECONDS = 5  # a long step tells a log file of its progress so often


@dataclass
class _Verbosity:
    level: int = NORMAL


_VERBOSITY = _Verbosity()


def set_verbosity(level: int) -> None:
    """QUIET, NORMAL or VERBOSE, for all that follows."""
    _VERBOSITY.level = level


def is_verbose() -> bool:
    """Whether every epoch and Ray's own log are wanted."""
    return _VERBOSITY.level >= VERBOSE


def is_quiet() -> bool:
    """Whether only outcomes and warnings are wanted."""
    return _VERBOSITY.level <= QUIET


@contextmanager
def aside(*, wanted: bool = True) -> Iterator[None]:
    """What is said meanwhile goes to standard error, so that standard output holds nothing but an answer for programs."""
    OUT.stderr = wanted
    try:
        yield
    finally:
        OUT.stderr = False


def plain(text: str, style: str = "") -> Text:
    """Text without a meaning of its own for the terminal, whatever names are in it."""
    return Text(printable(text, keep="\n"), style=style)


def say(text: str = "") -> None:
    """One line, as it is: an outcome, or an answer. It is never broken, so that a command can be copied."""
    OUT.print(plain(text), soft_wrap=True)


def answer(text: str) -> None:
    """An answer for programs, alone on standard output (see `aside`)."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def ask(question: str) -> str:
    """What a person answers at the terminal; the question goes where all that is said goes."""
    OUT.print(plain(question), end="", soft_wrap=True)
    return sys.stdin.readline()


def escape_unprintable() -> None:
    """From now on, what the terminal's encoding lacks is written as an escape instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prints(text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(OUT.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def tell(what: str | Table = "") -> None:
    """A line or a table of what happens on the way; nothing with -q."""
    if not is_quiet():
        show(what) if isinstance(what, Table) else say(what)


def tell_more(text: str) -> None:
    """A line that only -v shows."""
    if is_verbose():
        say(text)


def heading(text: str) -> None:
    """The beginning of a step."""
    if not is_quiet():
        OUT.print(plain(f"\n{text}", style="bold"))


def warn(text: str) -> None:
    """One line that deserves attention."""
    OUT.print(plain(f"! {text}", style="yellow"), soft_wrap=True)


def show(table: Table) -> None:
    """A table, wide enough for its content in a log file."""
    if OUT.is_terminal:
        OUT.print(table)
    else:
        Console(width=160, highlight=False, stderr=OUT.stderr).print(table)


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A plain table: the first column left, all others right; text is shown as it is, and folded rather than cut."""
    table = Table(title=plain(title), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(plain(str(cell)) for cell in row))
    return table


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a few lines elsewhere; the callback takes (done, total)."""
    if not OUT.is_terminal or is_quiet():
        yield _LineProgress(title)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=OUT, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _LineProgress:
    """`title: 120 of 360` every few seconds; a step that is over before says nothing."""

    def __init__(self, title: str) -> None:
        self.title, self.last = title, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= LINE_SECONDS and done < total:
            self.last = now
            tell(f"  {self.title}: {done} of {total}")


@contextmanager
def live_block(render: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """A block that is drawn again at every call (at most four times a second) on a terminal; nothing elsewhere."""
    if not OUT.is_terminal or is_quiet():
        yield lambda: None
        return
    with Live(render(), console=OUT, refresh_per_second=4) as live:
        yield lambda: live.update(render())
