"""Events of a search's journal: their kinds, the fields that each must have, and what a value may be.

    {"event": "session", "time": ..., "slots": 2, ...}                                  the driver started or resumed
    {"event": "start", "time": ..., "trial": "7", "number": 7, "role": "search", "config": {...}, "params": {...}, ...}
    {"event": "epoch", "time": ..., "trial": "7", "epoch": 3, "val_loss": ..., ...}
    {"event": "note", "time": ..., "trial": "7", "text": "failed, tried again: ..."}
    {"event": "pause", "time": ..., "trial": "7"}                                       at a rung (`scheduler: promote`)
    {"event": "promote", "time": ..., "trial": "7"}                                     it goes on beyond that rung
    {"event": "unneeded", "time": ..., "trial": "7r1", "reason": "..."}                 a repeat that no choice will use
    {"event": "needed", "time": ..., "trial": "7r1"}                                    a longer search asks for it after all
    {"event": "end", "time": ..., "trial": "7", "state": "pruned", "reason": "..."}

A journal may be years old, cut by a power failure, or come from a stranger: nothing in it is believed before `check_event`.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from tune_btxrd.monitor import ALL_IMAGES, GAP, MONITORS, OBJECTIVES

Event = dict[str, Any]  # one line of the journal, as JSON holds it
EpochRow = dict[str, Any]  # one epoch of a trial, with the names of `epochs.csv`

ENDINGS = {"budget": "ran its full budget", "patience": "stopped by its own patience"}  # `stop` of an epoch -> the reason
END_STATES = ("complete", "pruned", "diverged", "failed")
ROLES = ("search", "confirm")
LABEL = re.compile(r"\d{1,9}(r\d{1,9})?")  # it becomes part of file names
LARGEST = 1e300  # of a number; sums of larger ones overflow
LATEST = 1e11  # seconds since 1970


class EventError(ValueError):
    """An event that does not fit; its text ends the sentence "line 12 of the journal ..."."""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_number(value: object) -> bool:
    return _is_finite(value) or (isinstance(value, float) and not isinstance(value, bool))


def _is_config(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("monitor", "val_loss") in tuple(MONITORS) and value.get("objective", ALL_IMAGES) in OBJECTIVES


Rule = tuple[str, Callable[[object], bool]]
TEXT: Rule = ("a text", lambda value: isinstance(value, str))
TRIAL: Rule = ("a trial like 7 or 7r2", lambda value: isinstance(value, str) and bool(LABEL.fullmatch(value)))
TIME: Rule = ("seconds since 1970", lambda value: _is_finite(value) and 0 <= value <= LATEST)  # type: ignore[operator]
WHOLE: Rule = ("a whole number", _is_whole)
COUNT: Rule = ("a whole number from 1", lambda value: _is_whole(value) and value != 0)
FINITE: Rule = ("a finite number", _is_finite)
NUMBER: Rule = ("a number", _is_number)
TRUTH: Rule = ("true or false", lambda value: isinstance(value, bool))
MAPPING: Rule = ("a mapping", lambda value: isinstance(value, dict))


def _one_of(*values: str) -> Rule:
    return f"one of {', '.join(map(repr, values))}", lambda value: isinstance(value, str) and value in values


def _or_none(rule: Rule) -> Rule:
    return f"{rule[0]} or null", lambda value: value is None or rule[1](value)


REQUIRED: Mapping[str, Mapping[str, Rule]] = {
    "session": {},
    "start": {
        "trial": TRIAL,
        "number": WHOLE,
        "role": _one_of(*ROLES),
        "config": ("a mapping with a known monitor and objective", _is_config),
        "params": MAPPING,
    },
    "epoch": {
        "trial": TRIAL,
        "epoch": COUNT,
        "val_loss": FINITE,
        "objective": FINITE,
        "improved": TRUTH,
        "stop": _one_of("", *ENDINGS),
    },
    "note": {"trial": TRIAL, "text": TEXT},
    "pause": {"trial": TRIAL},
    "promote": {"trial": TRIAL},
    "unneeded": {"trial": TRIAL, "reason": TEXT},
    "needed": {"trial": TRIAL},
    "end": {"trial": TRIAL, "state": _one_of(*END_STATES), "reason": TEXT},
}
OPTIONAL: Mapping[str, Mapping[str, Rule]] = {
    "session": {
        "slots": COUNT,
        "threads": COUNT,
        "nodes": COUNT,
        "dashboard": _or_none(TEXT),
        "deadline": _or_none(TIME),
        "epoch_budget": _or_none(WHOLE),
    },
    "start": {"of": _or_none(WHOLE), "repeat": _or_none(COUNT)},
    "epoch": {"slot": TEXT},
}


def is_score(name: str, value: object) -> bool:
    """Whether this value of an epoch's row says how good the model is: those of validation, and a gap between centers."""
    return name.startswith("val_") or (name == GAP and isinstance(value, float) and not math.isnan(value))


def check_event(event: Event) -> None:
    """Raises EventError where an event has an unknown kind, lacks a field, or holds a value of another kind."""
    kind = event.get("event")
    if not isinstance(kind, str) or kind not in REQUIRED:
        raise EventError(f"is an event of an unknown kind ({_shown(kind)})")
    required, optional = {"time": TIME, **REQUIRED[kind]}, OPTIONAL.get(kind, {})
    for name, rule in required.items():
        if name not in event:
            raise EventError(f"lacks {name!r}")
        _check(name, event[name], rule)
    for name, value in event.items():
        if name in optional:
            _check(name, value, optional[name])
        elif kind == "epoch" and type(value) is not float and name not in required and name != "event":
            _check(name, value, NUMBER)  # most are floats, and there are many
    if kind == "start":
        _check_start(event)


def _check(name: str, value: object, rule: Rule) -> None:
    words, holds = rule
    if not holds(value):
        raise EventError(f"has {name}={_shown(value)} where {words} is due")


def _check_start(event: Event) -> None:
    number, of, repeat = event["number"], event.get("of"), event.get("repeat")
    label = str(number) if event["role"] == "search" else f"{of}r{repeat}"
    if event["trial"] != label:
        raise EventError(f"calls trial {label} {event['trial']!r}")
    config = event["config"]
    if wrong := [name for name, value in event["params"].items() if name not in config or config[name] != value]:
        raise EventError(f"has other values of {_shown(wrong[0])} in params and config")


def _shown(value: object) -> str:
    return ascii(value)[:40]
