"""The command line's entry: parses, runs one verb, and turns every ending into an exit code and at most one line."""

import errno
import sys
import traceback
from collections.abc import Sequence

from tune_btxrd.cli.parser import parse_words
from tune_btxrd.errors import TuneBtxrdError

DONE, BUG, MISTAKE, INTERRUPTED = 0, 1, 2, 130
SURROUNDINGS = {  # what a folder or disk answers; never a mistake of ours where it names a file
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ESTALE,
    errno.EIO,
    errno.EBUSY,
    errno.EFBIG,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns 0 done, 2 a mistake the user can mend (one line), 1 a bug (traceback) or a failed job, 130
    interrupted, 143 ended by SIGTERM.
    """
    try:
        parsed = parse_words(arguments)
        from tune_btxrd.cli import verbs
        from tune_btxrd.console import escape_unprintable

        escape_unprintable()
        verbs.run_verb(parsed)
    except (Exception, KeyboardInterrupt) as error:
        return _exit_code(error)
    return DONE


def _exit_code(error: BaseException) -> int:
    """How a verb ended, said in one line where that is for a person; a bug keeps its traceback."""
    if isinstance(error, TuneBtxrdError):
        return _mistake(str(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", INTERRUPTED))  # SIGTERM has its own
    if isinstance(error, BrokenPipeError):
        return DONE
    if isinstance(error, OSError) and error.filename is not None and (error.errno in SURROUNDINGS or _made_none(error)):
        return _mistake(f"A file or folder cannot be used: {error.filename}: {error.strerror}.", MISTAKE)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of all calls, getcwd alone names no file
        return _mistake("The working directory is gone: change to one that exists.", MISTAKE)
    traceback.print_exception(error)
    return BUG


def _made_none(error: OSError) -> bool:
    """Whether a folder could not be made: `/proc` and dead mounts answer that nothing is there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name == "mkdir"


def _mistake(text: str, code: int) -> int:
    print(f"tune-btxrd: {text}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    return code
