"""Field: what is allowed, as people read it and as values are checked."""

import pickle

import pytest

from tune_btxrd.config import FIELDS, Field, TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.spec import SETTINGS


def field(kind: type = float, **rules: object) -> Field:
    return Field(name="x", kind=kind, default=None, meaning="of a test", **rules)


@pytest.mark.parametrize(
    ("rules", "words", "allowed", "refused"),
    [
        ({"above": 0}, "x > 0", [5e-324, 1e300], [0, -1]),
        ({"at_least": 0}, "x >= 0", [0, 1e300], [-5e-324]),
        ({"at_least": 0, "below": 1}, "0 <= x < 1", [0, 0.999], [1, -0.1]),
        ({"above": 0, "at_most": 180}, "0 < x <= 180", [1e-9, 180], [0, 180.1]),
        ({"at_most": 4294966272}, "x <= 4294966272", [4294966272, -1], [4294966273]),
    ],
)
def test_bounds_read_as_they_are_checked(
    rules: dict[str, float], words: str, allowed: list[float], refused: list[float]
) -> None:
    assert field(**rules).rule == words
    for value in allowed:
        assert field(**rules).checked(value) == value
    for value in refused:
        with pytest.raises(ConfigError, match=f"`{words}` must hold, but got x="):
            field(**rules).checked(value)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [(float, 3, 3.0), (int, 3.0, 3), (bool, False, False), (str, "a", "a"), (int, 10**10, 10**10)],
)
def test_numbers_take_the_type_of_the_field(kind: type, value: object, found: object) -> None:
    checked = field(kind).checked(value)
    assert checked == found and type(checked) is kind


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, 3.5, "x must be a whole number, but got 3.5"),
        (int, True, "x must be a whole number, but got True"),
        (int, 10**400, "x must be a whole number"),
        (float, 10**400, "x must be a finite number"),
        (float, float("nan"), "x must be a finite number, but got nan"),
        (float, None, "x must be a finite number, but got None"),
        (float, "1e-5", r"YAML reads 1e-5 as text: write 1\.0e-05"),
        (bool, "yes", "x must be true or false, but got 'yes'"),
        (bool, 1, "x must be true or false, but got 1"),
        (str, False, "x must be a text, but got False: YAML reads a bare no"),
        (str, "", "`x is a text` must hold, but got x=''"),
    ],
)
def test_other_types_are_refused(kind: type, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        field(kind).checked(value)


def test_every_default_keeps_its_own_rule_and_every_field_says_what_it_means() -> None:
    for item in (*FIELDS.values(), *SETTINGS.values()):
        assert item.checked(item.default) == item.default
        assert len(item.meaning) > 8 and item.name in item.rule


def test_a_config_is_equal_after_it_was_sent_to_another_process() -> None:
    config = TrainConfig(stages=[{"epochs": "rest", "trains": "all"}], lr=1)
    assert pickle.loads(pickle.dumps(config)) == config == TrainConfig.from_dict(config.to_dict())
