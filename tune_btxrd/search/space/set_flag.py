"""`--set NAME=VALUE` -> a hyperparameter and its value, of the field's type and within its rule."""

import re
from typing import Any

from tune_btxrd.config import FIELDS, check_name, checked, shown
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.yaml_text import parse_value

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_setting(text: str) -> tuple[str, Any]:
    """Name and value of one `--set NAME=VALUE`, e.g. `lr=1e-3`, `pretrained=no`, `stages=[{epochs: rest, trains: all}]`.

    Raises:
        ConfigError: no such hyperparameter (the line has the nearest name), another type, or a value outside its rule.
    """
    name, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        raise ConfigError(f"--set reads NAME=VALUE, but got {shown(text)}: write e.g. --set lr=0.001.")
    return name, checked(name, _typed(name, value))


def _typed(name: str, text: str) -> Any:
    """The text as its field's type; text that does not fit stays text, which the field refuses."""
    check_name(name)
    field = FIELDS[name]
    if field.is_number and NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else float(text)
    if field.kind is bool:
        return SWITCHES.get(text.lower(), text)
    if field.is_optional and text.lower() in ("none", "null"):
        return None
    if field.is_list and text.startswith("["):
        return parse_value(text, "--set stages=[...]")
    return text
