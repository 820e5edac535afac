"""Completion: the script by which a shell completes verbs, flags, choices and names of files."""

import argparse
from pathlib import Path

from tune_btxrd.cli.parser import build_parser

FOLDER = "DIR"  # how flags that take a folder are shown in help


def completion_script(shell: str) -> str:
    """The script for a shell that shtab knows; the shell runs it once, and never Python while a person types."""
    import shtab

    parser = build_parser()
    _complete_files(parser)
    return shtab.complete(parser, shell)


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Marks what takes files or folders, also in the verbs of a verb."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _complete_files(verb)
        elif action.metavar == FOLDER:
            setattr(action, "complete", shtab.DIRECTORY)  # noqa: B010  # shtab's own attribute, unknown to argparse
        elif action.type is Path:
            setattr(action, "complete", shtab.FILE)  # noqa: B010
