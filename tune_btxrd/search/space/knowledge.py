"""Starting knowledge: what an earlier search found, as a first trial and as values believed good (`--from-search NAME`)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.search.space.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What a search takes from an earlier one, and where it comes from; `search.json` keeps it.

    Attributes:
        search, trial: the earlier search and its winner; score: what that one was claimed to reach, in words.
        values: the winner's values of what is searched here, within its ranges.
        left_out: hyperparameters searched here of which the winner had no value, or one that lies outside.
        unused: hyperparameters searched there that are not searched here.
    """

    search: str
    trial: str
    score: str
    values: Mapping[str, object]
    left_out: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        known = ", ".join(f"{name}={value}" for name, value in self.values.items()) or "nothing that is searched here"
        lost = f"; outside of this space: {', '.join(self.left_out)}" if self.left_out else ""
        lost += f"; searched there and not here: {', '.join(self.unused)}" if self.unused else ""
        return f"from search {self.search}, trial {self.trial} ({self.score}): {known}{lost}"


def knowledge(
    search: str, trial: str, score: str, *, winner: Mapping[str, Any], spec: SearchSpec, searched: SearchSpec | None = None
) -> Knowledge:
    """What the winner of an earlier search tells about this space; hyperparameters are told apart by their names.

    Args:
        winner: its complete config, so that what was fixed there may be searched here.
        searched: the earlier search's own space, for what is not searched here.
    """
    known, lost = dict[str, object](), list[str]()
    for dimension in spec.space:
        value = winner.get(dimension.name)
        if value is not None and dimension.contains(value):
            known[dimension.name] = value
        else:
            lost.append(dimension.name)
    here = {dimension.name for dimension in spec.space}
    unused = tuple(item.name for item in (searched.space if searched else ()) if item.name not in here)
    return Knowledge(search=search, trial=trial, score=score, values=known, left_out=tuple(lost), unused=unused)


def informed_by(spec: SearchSpec, known: Sequence[Knowledge]) -> SearchSpec:
    """The spec with each winner's config as a further start config; a prior is of the first search that has the value."""
    return functools.reduce(informed, known, spec)


def informed(spec: SearchSpec, known: Knowledge | None) -> SearchSpec:
    """The spec with the winner's config as its next start config and its values as priors; a prior that is there stays."""
    if known is None or not known.values:
        return spec
    space = tuple(_believed(dimension, known.values) for dimension in spec.space)
    first = _complete(spec, known.values)
    is_new = first is not None and first not in [dict(values) for values in spec.start]
    return dataclasses.replace(spec, space=space, start=(*spec.start, first) if is_new and first else spec.start)


def _believed(dimension: Dimension, values: Mapping[str, object]) -> Dimension:
    if dimension.prior is not None or dimension.name not in values:
        return dimension
    return dataclasses.replace(dimension, prior=values[dimension.name])


def _complete(spec: SearchSpec, values: Mapping[str, object]) -> dict[str, object] | None:
    """A start config: the known values, else the hand-made ones; None where an active hyperparameter has neither."""
    config: dict[str, object] = {}
    for dimension in spec.space:
        if not dimension.is_active(config):
            continue
        value = values.get(dimension.name, spec.start[0].get(dimension.name))
        if value is None:
            return None
        config[dimension.name] = value
    return config
