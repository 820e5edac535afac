"""YAML text -> plain data, within bounds: the one way in which the product reads YAML, also what a stranger wrote.

Refused in one line: a file that is no YAML or too large, deep nesting, aliases that multiply, repeated names, names that
are no text, and tags beyond plain data. Dates stay text.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tune_btxrd.errors import ConfigError

MOST_BYTES = 100_000  # the largest shipped space has 2 kB; PyYAML reads about 200 kB per second
MOST_CHARACTERS = 200_000  # of all values once every alias is written out
MOST_LEVELS = 12  # of mappings and lists within each other; a space with stages needs 5
Plain = dict[str, Any]  # a mapping as YAML holds it: names, and values that JSON has too
MERGE = "tag:yaml.org,2002:merge"
TIMESTAMP = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path, what: str) -> Plain:
    """The mapping that a file holds.

    Args:
        what: the file's name in a message, e.g. "A search space".

    Raises:
        ConfigError: no readable file, no YAML, no mapping, or beyond a bound; the line names the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a NUL
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"{what} must be a readable file, but {path}: {reason}.") from error
    try:
        return parse_yaml(text, what)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_yaml(text: str, what: str) -> Plain:
    """The mapping of YAML text (see `read_yaml`)."""
    content = parse_value(text, what)
    if not isinstance(content, dict):
        raise ConfigError(f"{what} must be a mapping of `name: value` lines, but the file holds something else.")
    return content


def parse_value(text: str, what: str) -> Any:
    """Any plain value of YAML text: what `json.loads` could return (see `read_yaml`)."""
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{what} must have at most {MOST_BYTES} bytes, but has more: it holds something else.")
    try:
        return yaml.load(text, Loader=_BoundedLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} must be YAML, but {one_line(error)}") from error
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise ConfigError(f"{what} must hold plain values, but a tag does not fit its value: {one_line(error)}") from error


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds; it also refuses equal keys of a mapping, of which PyYAML keeps the last silently."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.level += 1
        if self.level > MOST_LEVELS + 1:
            raise ConfigError(f"YAML must have at most {MOST_LEVELS} levels, but line {self._line()} is deeper: flatten it.")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.level -= 1
        return node

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        if (size := _written_out(node, {}, frozenset())) > MOST_CHARACTERS:
            raise ConfigError(
                f"YAML must have at most {MOST_CHARACTERS} characters with its aliases written out, but has {size:.1e}: "
                "write the values instead of `*name`."
            )
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        line = node.start_mark.line + 1
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        if wrong := [key for key in keys if not isinstance(key, str)]:
            hint = ": YAML reads a bare no, off, yes, on as true or false" if isinstance(wrong[0], bool) else ""
            raise ConfigError(f"A name must be text, but got {wrong[0]!r} in the mapping of line {line}{hint}.")
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise ConfigError(
                f"A name stands once in a mapping, but {repeated[0]!r} stands twice in the one of line {line}: remove one."
            )
        return super().construct_mapping(node, deep)

    def _line(self) -> int:
        return int(self.peek_event().start_mark.line) + 1  # type: ignore[no-untyped-call]


_BoundedLoader.yaml_implicit_resolvers = {  # without dates: 2020-01-01 is text
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _written_out(node: yaml.Node, known: dict[int, int], above: frozenset[int]) -> int:
    """Characters of a node with every alias written out; `known` holds sizes by id, `above` the nodes it stands in."""
    if id(node) in above:
        line = node.start_mark.line + 1
        raise ConfigError(f"A YAML value must not hold itself, but the one of line {line} does: write it out.")
    if id(node) not in known:
        if isinstance(node, yaml.ScalarNode):
            inner = [len(node.value)]
        else:
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            inner = [_written_out(part, known, above | {id(node)}) for part in parts]
        known[id(node)] = 1 + sum(inner)
    return known[id(node)]


def one_line(error: Exception) -> str:
    """An error's text without line breaks, at most 300 characters of it."""
    return re.sub(r"\s+", " ", str(error))[:300]
