"""YAML as it may come from anybody: read within bounds, or refused in one line."""

import json
from pathlib import Path

import pytest

from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.yaml_text import MOST_BYTES, MOST_LEVELS, parse_value, parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGED_BOMB = "m0: &m0 {k: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 10)
)
LONG_SCALAR = f"a: &a {'x' * 50_000}\nb: [*a, *a, *a, *a, *a]"
REFUSED = {
    "aliases that multiply": (BOMB, "aliases written out"),
    "merges that multiply": (MERGED_BOMB, "aliases written out"),
    "one long text many times": (LONG_SCALAR, "aliases written out"),
    "a list that holds itself": ("a: &a [*a]", "must not hold itself, but the one of line 1"),
    "a mapping that holds itself": ("x: 1\na: &a {b: {c: *a}}", "must not hold itself, but the one of line 2"),
    "deep lists": ("a: " + "[" * 50_000, "at most 12 levels, but line 1 is deeper"),
    "deep mappings": ("\n".join(" " * n + "a:" for n in range(40)), "at most 12 levels, but line 13 is deeper"),
    "too large": ("a: 1\n" * MOST_BYTES, f"at most {MOST_BYTES} bytes"),
    "repeated name": ("a: 1\nb: {c: 1, c: 2}", "'c' stands twice in the one of line 2"),
    "a switch as name": ("no: 1", "A name must be text, but got False in the mapping of line 1: YAML reads a bare no"),
    "a number as name": ("a: {1: 2}", "A name must be text, but got 1"),
    "a list as name": ("? [a]\n: 1", "A name must be text, but got ['a']"),
    "code": ("a: !!python/object/apply:os.system ['true']", "must be YAML, but could not determine a constructor"),
    "a tag that does not fit": ("a: !!int word", "a tag does not fit its value"),
    "no date": ("a: !!timestamp word", "a tag does not fit its value"),
    "a number of 5000 digits": ("a: " + "9" * 5000, "a tag does not fit its value"),
    "two documents": ("a: 1\n---\nb: 2", "must be YAML, but expected a single document"),
    "an alias of nothing": ("a: *b", "must be YAML, but found undefined alias"),
    "no text": ("a: \x00", "must be YAML"),
    "empty": ("", "must be a mapping of `name: value` lines"),
}


@pytest.mark.timeout(30)  # a bound that is checked after the work that it bounds hangs
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_stranger_sent_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, words = REFUSED[name]
    path = tmp_path / "sent.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path, "A file")
    message = str(caught.value)
    assert words in message and message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600


def test_ordinary_yaml_is_read_as_it_is() -> None:
    text = "base: &base {lr: 1.0e-3}\nstart: [*base, {<<: *base, dropout: 0.1}]\ndate: 2020-01-01\nnone: null\non_: on"
    assert parse_yaml(text, "A file") == {
        "base": {"lr": 1e-3},
        "start": [{"lr": 1e-3}, {"lr": 1e-3, "dropout": 0.1}],
        "date": "2020-01-01",
        "none": None,
        "on_": True,
    }
    deepest = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert parse_value(deepest, "A file") == json.loads(deepest)


@pytest.mark.parametrize(("data", "words"), [(None, "No such file"), (b"a: \xff", "no UTF-8 text")])
def test_a_file_that_cannot_be_read_is_named(data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "sent.yaml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"A file must be a readable file, but .*sent.yaml: .*{words}"):
        read_yaml(path, "A file")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_yaml(tmp_path, "A file")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "sent.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(path, "A file") == {"a": 1}
