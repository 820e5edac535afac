"""All combinations of values that some hyperparameters can take together in a space; ranges count by their ends."""

from collections.abc import Collection, Mapping
from typing import Any

from tune_btxrd.config import FIELDS
from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.search.space.spec import SearchSpec


def combinations(spec: SearchSpec, names: Collection[str]) -> list[dict[str, Any]]:
    """Every combination of the values of `names`, searched, fixed or default, that a config of the space can have."""
    asked = _with_parents(spec, names)
    found: list[dict[str, object]] = [{}]
    for dimension in spec.space:
        if dimension.name in asked:
            values = _values(dimension, spec.space)
            found = [
                longer
                for known in found
                for longer in ([{**known, dimension.name: v} for v in values] if dimension.is_active(known) else [known])
            ]
    rest = {name: FIELDS[name].default for name in FIELDS} | dict(spec.fixed) | spec.whole_search
    complete = [{name: known.get(name, rest[name]) for name in names} for known in found]
    return [item for place, item in enumerate(complete) if item not in complete[:place]]


def _with_parents(spec: SearchSpec, names: Collection[str]) -> set[str]:
    """The names, and all those that decide by `when` whether they are searched."""
    asked = set(names)
    for dimension in reversed(spec.space):  # a parent stands before its child
        if dimension.name in asked:
            asked |= set(dimension.when)
    return asked


def _values(dimension: Dimension, space: Collection[Dimension]) -> list[Any]:
    """The choices, or a range's ends and the values in it that other dimensions wait for."""
    if dimension.choices is not None:
        return list(dimension.choices)
    waited: Mapping[Any, None] = dict.fromkeys(
        value for other in space for value in other.when.get(dimension.name, ()) if not isinstance(value, list | dict)
    )
    return [*dict.fromkeys([*dimension.bounds, *waited])]
