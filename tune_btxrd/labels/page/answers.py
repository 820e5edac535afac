"""Answers as the browser sends them: checked, as acts of the label store."""

import math
import re
from collections.abc import Mapping, Sequence

from tune_btxrd.errors import DataError
from tune_btxrd.labels.records import Act

CLIENT_ID = re.compile(r"[0-9a-f]{16,64}")
ARM = re.compile(r"[a-z0-9_ +-]{1,40}")
MOST_SECONDS = 86_400.0


class RefusedError(DataError):
    """What the browser sent cannot be taken; sending it again would not help."""


def read_answer(operation: Mapping[str, object], labels: Sequence[str], annotator: str) -> Act:
    """An answer as the browser sent it. Raises: RefusedError for anything that the page would not send."""
    kind, image, arm = operation.get("kind"), operation.get("image"), operation.get("arm")
    if kind not in ("label", "unsure", "bad", "skip"):
        raise RefusedError(f"An answer's kind must be label, unsure, bad or skip, but got {kind!r}.")
    if not isinstance(image, int) or isinstance(image, bool) or not 0 < image < 2**62:
        raise RefusedError(f"An image is a positive number, but got {image!r}.")
    if not isinstance(arm, str) or not ARM.fullmatch(arm):
        raise RefusedError(f"An arm is a short word, but got {arm!r}.")
    return Act(
        kind=kind,
        image=image,
        annotator=annotator,
        client=read_client(operation),
        arm=arm,
        answers=_answers(operation.get("values"), labels) if kind == "label" else {},
        seconds=_seconds(operation.get("seconds")),
        settles=arm == "dispute" and kind != "skip",
        saw_model=operation.get("saw_model") is True,
    )


def read_client(operation: Mapping[str, object]) -> str:
    """The browser's own id of an operation. Raises: RefusedError."""
    given = operation.get("client_id")
    if not isinstance(given, str) or not CLIENT_ID.fullmatch(given):
        raise RefusedError(f"A client_id has 16 to 64 hexadecimal digits, but got {given!r}.")
    return given


def _answers(values: object, labels: Sequence[str]) -> dict[str, int | None]:
    if not isinstance(values, list) or not 0 < len(values) <= len(labels):  # a page from before a label was added
        raise RefusedError(f"An answer holds {len(labels)} values, one per label, but got {values!r}: reload the page.")
    if wrong := [value for value in values if value is not None and (isinstance(value, bool) or value not in (0, 1))]:
        raise RefusedError(f"A value must be 1, 0 or null, but got {wrong[0]!r}.")
    return dict(zip(labels, (value if value is None else int(value) for value in values), strict=False))


def _seconds(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise RefusedError(f"Seconds must be a number of at least 0, but got {given!r}.")
    return min(float(given), MOST_SECONDS)
