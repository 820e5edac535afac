"""Earlier searches as starting knowledge of a new one: `--from-search NAME`, which may be repeated."""

import dataclasses
from collections.abc import Sequence

from tune_btxrd.console import say
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.open_search import OpenSearch
from tune_btxrd.pipeline.place import Place
from tune_btxrd.results.search_json import SpaceRequest
from tune_btxrd.search.space.knowledge import Knowledge, knowledge
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.tasks.task import Task


def with_knowledge(space: SpaceRequest, names: Sequence[str], place: Place, *, spec: SearchSpec, task: Task) -> SpaceRequest:
    """The space with what the searches of these names found: the winner of each, from the same storage, in this order.

    Args:
        space: complete (see `complete_space`); spec: what it holds; place, task: of the new search.

    Raises:
        ConfigError: a name is said twice, a search was of another task, or nothing of its winner lies in this space.
        ResultError: no such search, or it has no winner yet.
    """
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise ConfigError(f"--from-search names each earlier search once, but {twice} is there twice: leave one out.")
    found = tuple(_knowledge(OpenSearch(Place(name=name, storage=place.storage)), spec, task) for name in names)
    for item in found:
        say(f"Starts {item}")
    return dataclasses.replace(space, knowledge=found)


def _knowledge(earlier: OpenSearch, spec: SearchSpec, task: Task) -> Knowledge:
    there = task_named(earlier.settings.source.task)
    if there.name != task.name:
        raise ConfigError(
            f"--from-search takes from a search of the same task, but {earlier.name} was {there.name} and this one is "
            f"{task.name}: leave it out."
        )
    searched, selection = earlier.spec, earlier.selection
    winner, standing = selection.winner, selection.standing
    confirmed = standing is not None and bool(standing.scores)
    score = winner.monitor.show(standing.mean) + ", confirmed" if standing and confirmed else winner.shown
    known = knowledge(earlier.name, winner.label, score, winner=winner.config, spec=spec, searched=searched)
    if not known.values:
        names = ", ".join(item.name for item in spec.space)
        raise ConfigError(
            f"--from-search takes values of what is searched, but the winner of {earlier.name} has none of {names} within "
            "this space: leave it out, or widen the space."
        )
    return known


def seen_earlier(known: Sequence[Knowledge], place: Place, sha256: str) -> set[str]:
    """Ids of this dataset's images on which earlier searches chose what is known, and those that they began from.

    A test part that holds some of them is no longer unseen, however the new search is split.

    Raises:
        ResultError, DataError: an earlier search that is gone or damaged.
    """
    seen: set[str] = set()
    waiting, done = [item.search for item in known], set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        settings = OpenSearch(Place(name=name, storage=place.storage)).settings
        waiting += [item.search for item in settings.space.knowledge]
        if settings.dataset.sha256 == sha256:
            seen |= settings.searched_ids()
    return seen


def require_same_knowledge(names: Sequence[str], known: Sequence[Knowledge]) -> None:
    """Raises ConfigError where a search that goes on is told of other earlier searches than it began with."""
    began = [item.search for item in known]
    if names and list(names) != began:
        with_them = f"began with {' and '.join(began)}" if began else "began without one"
        raise ConfigError(f"--from-search is for the beginning of a search, but this one {with_them}: leave it out.")
