"""Verb `label`: the labelling page of a label store, in the browser of this computer, until Ctrl-C."""

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.console import say, tell
from tune_btxrd.data.readers.names import check_name
from tune_btxrd.distributed.interrupts import stoppable
from tune_btxrd.errors import ConfigError, DataError, flag_words, shell_command
from tune_btxrd.labels.page.choices import MOST_LABELS, choices
from tune_btxrd.labels.page.serve import serve
from tune_btxrd.labels.page.sitting import Sitting
from tune_btxrd.labels.records import Mode
from tune_btxrd.labels.store import LabelStore

FLAGS: Mapping[Mode, str] = {"holdout": "--holdout", "review": "--review", "dispute": "--disagreements"}


def label(
    path: Path,
    *,
    mode: Mode = "label",
    annotator: str | None = None,
    port: int | None = None,
    single_key: bool = False,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Serves the page of a store until Ctrl-C, then says how to go on.

    Args:
        annotator: who labels; None: the user of this computer.
        single_key: begin with one key that decides all labels.
        keys: label -> key; kept in the store.

    Raises:
        DataError: a store that cannot be opened, a review without predictions.
        ConfigError: a port, key or annotator that cannot be used.
        KeyboardInterrupt: after Ctrl-C.
    """
    who = _user() if annotator is None else annotator
    check_name(who, "--annotator")
    with LabelStore(path) as store:
        if keys:
            store.set_keys(keys)
        if mode == "review" and store.latest_model() is None:
            raise DataError(f"A review needs predictions, but {path} has none: `labels score` makes them.")
        if single_key:
            _check_single_key(store)
        sitting = Sitting(store, who, mode, is_single=single_key)
        before = store.last_event
        again = [
            "python",
            "-m",
            "tune_btxrd",
            "label",
            str(path),
            *flag_words("--annotator", who),
            *([FLAGS[mode]] if mode in FLAGS else []),
            *(["--single-key"] if single_key else []),
        ]

        def how_to_go_on() -> str:
            return f"Stopped; every answer that the page called saved is in {path}. Go on: {shell_command(again)}"

        def ready(address: str) -> None:
            tell(f"{path.name}: {before} events so far, annotator {who}. Ctrl-C ends the page, at any time.")
            say(address)

        with stoppable(how_to_go_on):
            serve(sitting, port=port, ready=ready)


def read_keys(words: Sequence[str] | None) -> dict[str, str]:
    """`LABEL=K`, once or more: label -> key. Raises: ConfigError."""
    keys = {}
    for word in words or ():
        name, sign, key = word.rpartition("=")
        if not sign or not name:
            raise ConfigError(f"--key must read LABEL=K with one character K, but got {word!r}.")
        keys[name] = key
    return keys


def _check_single_key(store: LabelStore) -> None:
    if store.task == "multiclass":
        raise ConfigError(
            f"--single-key is for stores of labels, but {store.path} holds classes, where one key decides anyway."
        )
    names = [label.name for label in store.labels]
    if not choices(names):
        raise ConfigError(
            f"--single-key takes at most {MOST_LABELS} labels, but {store.path} has {len(names)}: leave it out."
        )


def _user() -> str:
    """Raises: ConfigError where this computer does not know who works at it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("Who labels must be known, but this computer names no user: add --annotator NAME.") from error
