"""Choices: for one key that decides all labels: every combination of them with its key."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

MOST_LABELS = 3  # eight combinations; more keys nobody remembers
NONE = "None of them"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one key decides: `values` holds 1 or 0 per label."""

    key: str
    words: str
    values: tuple[int, ...]


def choices(labels: Sequence[str]) -> tuple[Choice, ...]:
    """Each label alone, none of them, then two and more together: for two labels 1 first, 2 second, 3 neither, 4 both.

    Empty where there are more labels than keys that one remembers.
    """
    count = len(labels)
    if not 1 <= count <= MOST_LABELS:
        return ()
    chosen: list[tuple[int, ...]] = [(place,) for place in range(count)] + [()]
    chosen += [places for size in range(2, count + 1) for places in combinations(range(count), size)]
    return tuple(
        Choice(
            key=str(number),
            words=" and ".join(labels[place] for place in places) or _none(labels),
            values=tuple(int(place in places) for place in range(count)),
        )
        for number, places in enumerate(chosen, start=1)
    )


def _none(labels: Sequence[str]) -> str:
    return f"No {labels[0]}" if len(labels) == 1 else "Neither" if len(labels) == 2 else NONE
