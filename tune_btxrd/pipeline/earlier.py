"""An earlier search as starting knowledge of a new one: `--from-search NAME`."""

import dataclasses

from tune_btxrd.console import say
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.open_search import OpenSearch
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.start import load_spec
from tune_btxrd.results.search_json import SpaceRequest
from tune_btxrd.search.space.knowledge import Knowledge, knowledge


def with_knowledge(space: SpaceRequest, name: str, place: Place) -> SpaceRequest:
    """The space with what the search of that name found: its winner, from the same storage.

    Args:
        space: complete (see `complete_space`); place: of the new search.

    Raises:
        ConfigError: nothing of the winner lies in this space. ResultError: no such search, or it has no winner yet.
    """
    earlier = OpenSearch(Place(name=name, storage=place.storage))
    spec, selection = load_spec(space), earlier.selection
    winner, standing = selection.winner, selection.standing
    confirmed = standing is not None and bool(standing.scores)
    score = winner.monitor.show(standing.mean) + ", confirmed" if standing and confirmed else winner.shown
    found = knowledge(name, winner.label, score, winner=winner.config, spec=spec)
    if not found.values:
        names = ", ".join(item.name for item in spec.space)
        raise ConfigError(
            f"--from-search takes values of what is searched, but the winner of {name} has none of {names} within "
            "this space: leave it out, or widen the space."
        )
    say(f"Starts {found}")
    return dataclasses.replace(space, knowledge=found)


def require_same_knowledge(name: str | None, known: Knowledge | None) -> None:
    """Raises ConfigError where a search that goes on is told of another earlier search than it began with."""
    if name is not None and name != (known.search if known else None):
        began = f"began with {known.search}" if known else "began without one"
        raise ConfigError(f"--from-search is for the beginning of a search, but this one {began}: leave it out.")
