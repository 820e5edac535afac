"""Mistakes that a user can mend. Anything else is a bug and keeps its traceback.

TuneBtxrdError          exit code 2, one line: the invariant, what was found, the cure
|-- ConfigError         a flag, a search space, a hyperparameter
|-- DataError           a dataset: files, table, labels, splits, cache
|-- ResultError         a results or checkpoint folder, an unusable checkpoint
|   `-- UnwritableError a file that cannot be written: a full disk, a storage that turned read-only
`-- JobError            a job on a cluster failed; exit code 1
"""

import shlex
from collections.abc import Iterable


class TuneBtxrdError(Exception):
    """A mistake the user can mend; its text is one line that every terminal shows, whatever names are in it."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(TuneBtxrdError):
    """A flag, a search space or a hyperparameter is wrong."""


class DataError(TuneBtxrdError):
    """A dataset, a split or the image cache is wrong."""


class ResultError(TuneBtxrdError):
    """A results folder or a checkpoint is missing, taken, foreign or damaged."""


class UnwritableError(ResultError):
    """A file cannot be written; what was written before stands."""


class JobError(TuneBtxrdError):
    """A job that was sent to a cluster failed there; the text says why."""

    exit_code = 1


def printable(text: str, keep: str = "") -> str:
    r"""Text that every terminal shows as it is: escape sequences, marks that turn the direction of writing and other
    invisible signs that a name may hold are written out (`\x1b`, `\u202e`).
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def shell_word(word: str) -> str:
    r"""The word as it is typed in bash, zsh or ksh; invisible signs as `$'\u200f'`, so that a terminal shows it whole."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = (_in_shell(sign) for sign in word.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{''.join(escaped)}'"


def flag_words(flag: str, value: str) -> list[str]:
    """A flag and its value as words; one word where the value would be read as a flag, as the class `-ve`."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def shell_command(words: Iterable[str]) -> str:
    """A command that can be typed as it is printed."""
    return " ".join(map(shell_word, words))


def _in_shell(sign: str) -> str:
    if sign.isprintable():
        return sign
    if "\udc80" <= sign <= "\udcff":  # a byte of a name that is no UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return f"\\U{ord(sign):08x}" if ord(sign) > 0xFFFF else f"\\u{ord(sign):04x}"


def first_line(error: object, longest: int = 160) -> str:
    """The first line of an error's text, at most `longest` characters; a library's may run over a page."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:longest] if lines else type(error).__name__
