"""Search spaces, `--config` files and `--set` as strangers write them: explained, made a config, or refused in one line."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.fuzz import HOSTILE_TEXTS, Case, Fuzz, changed_json, check, damaged, run_verb, sealed
from tests.support.paths import ROOT
from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.set_flag import parse_setting
from tune_btxrd.search.space.yaml_text import read_yaml

SHIPPED = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "search_spaces").glob("*.yaml"))}
ODD_YAML = (
    *("null", "~", "yes", "no", "1e-5", "1.0e-5", "0x1F", "0o17", "1_000", "12:30:45", "2020-01-01", "=", "!", "&x", "*x"),
    *("&x [*x]", "&x {a: *x}", "<<: {a: 1}", "[[1, 2], [3]]", "? [a]", "!!binary aGk=", "!!set {a}", "!!int x", "!!float x"),
    *("!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", '"\\0"', "[.nan, .nan]", "[1, 1.0]"),
    *("[true, 1]", "{low: 0, high: 1.0e+308}", "{low: -1.0e+308, high: 1.0e+308}", "{low: 1, high: 99999999999999999999}"),
    *("{low: 1, high: 9999999999, step: 1}", "{low: 0, high: 0.9, step: 1.0e-300}", "{low: 5.0e-324, high: 0.5, log: true}"),
    *(
        "{choices: [[1], [2]]}",
        "{choices: [{}, {a: 1}]}",
        "{choices: [a, null]}",
        "{choices: [one, [{epochs: rest, trains: all}]]}",
    ),
    *(
        "[{epochs: 1, trains: all}]",
        "[{epochs: -1, trains: head}, {epochs: rest, trains: all}]",
        "[{epochs: .nan}]",
        "[all]",
    ),
    *("1.0000000000000002", "99999999999999999999", "[" * 300, "{a: " * 300, "hf-hub:x/y", "local-dir:/tmp", "resnet18"),
)
WORDS = ("space", "start", "fixed", "when", "choices", "low", "high", "step", "log", "constraint", *FIELDS)


def test_space_explains_or_refuses_any_file(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    for case in fuzz.cases(250):
        text = case.choice(list(SHIPPED.values()))
        for _ in range(case.choice((1, 1, 1, 2, 3))):
            text = changed(case, text)
        path.write_bytes(
            damaged(case, text.encode("utf-8", "replace")) if case.random() < 0.1 else text.encode("utf-8", "replace")
        )
        with sealed(tmp_path):
            check(run_verb("space", str(path)))


def test_config_files_and_set_flags_make_a_config_or_are_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    path, whole = tmp_path / "config.yaml", yaml.safe_dump(TrainConfig().to_dict())
    for case in fuzz.cases(400):
        path.write_bytes(changed(case, whole).encode("utf-8", "replace"))
        setting = f"{case.choice(WORDS)}{case.choice('===:')}{case.choice((*ODD_YAML, *HOSTILE_TEXTS))}"
        with sealed(tmp_path):
            for made in (lambda: read_yaml(path, "--config"), lambda setting=setting: dict([parse_setting(setting)])):
                try:
                    TrainConfig.from_dict(made()).to_dict()
                except ConfigError as error:
                    assert "\n" not in str(error) and len(str(error)) < 2000


def changed(case: Case, text: str) -> str:
    """The text with a value, a line, a name or a piece of its data changed."""
    doing = case.choice((value_changed, value_changed, lines_changed, name_changed, data_changed, data_changed))
    return doing(case, text)


def value_changed(case: Case, text: str) -> str:
    tokens = list(re.finditer(r"[\w.+-]+|\{[^{}]*\}|\[[^\[\]]*\]", text))
    token = case.choice(tokens) if tokens else None
    new = case.choice((*ODD_YAML, *HOSTILE_TEXTS))
    return text[: token.start()] + new + text[token.end() :] if token else new


def lines_changed(case: Case, text: str) -> str:
    lines = text.split("\n")
    start = case.randrange(len(lines))
    kept = lines[start : start + case.randrange(4)]
    del lines[start : start + len(kept)]
    place = case.randrange(len(lines) + 1)
    return "\n".join([*lines[:place], *(kept * case.randrange(3)), *lines[place:]])


def name_changed(case: Case, text: str) -> str:
    return re.sub(rf"\b{case.choice(WORDS)}\b", case.choice(WORDS), text, count=case.choice((1, 0)))


def data_changed(case: Case, text: str) -> str:
    try:
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text + "\n"
    try:
        return yaml.safe_dump(changed_json(case, content))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
