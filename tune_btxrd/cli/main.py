"""The command line's entry: parses, runs one verb, and turns every ending into an exit code and at most one line."""

import sys
import traceback
from collections.abc import Sequence

from tune_btxrd.cli.parser import build_parser
from tune_btxrd.errors import TuneBtxrdError

DONE, BUG, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns 0 done, 2 a mistake the user can mend (one line), 1 a bug (traceback) or a failed job, 130
    interrupted, 143 ended by SIGTERM.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        from tune_btxrd.cli import verbs

        verbs.run_verb(parsed)
    except TuneBtxrdError as error:
        print(f"tune-btxrd: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        return getattr(interrupt, "exit_code", INTERRUPTED)  # SIGTERM has its own
    except BrokenPipeError:
        return DONE
    except Exception:
        traceback.print_exc()
        return BUG
    return DONE
