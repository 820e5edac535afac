"""`--set NAME=VALUE`: text becomes a value of the field's type, or one line says why not."""

import pytest

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.set_flag import parse_setting


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr=1e-5", "lr", 1e-5),  # text of a command line, where YAML's dot and sign are not asked for
        ("lr=1", "lr", 1.0),
        (" lr = .5 ", "lr", 0.5),
        ("batch_size=64", "batch_size", 64),
        ("batch_size=6.4e1", "batch_size", 64),
        ("pretrained=no", "pretrained", False),
        ("capture=True", "capture", True),
        ("backbone=resnet50", "backbone", "resnet50"),
        ("weights=none", "weights", None),
        ("weights=a=b.pt", "weights", "a=b.pt"),
        ("stages=two_phase", "stages", "two_phase"),
        ("stages=[{epochs: rest, trains: all}]", "stages", ({"epochs": "rest", "trains": "all"},)),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(text: str, name: str, value: object) -> None:
    found = parse_setting(text)
    assert found == (name, value) and type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("droput=0.1", "got 'droput': did you mean 'dropout'?"),
        ("lr", "--set reads NAME=VALUE, but got 'lr'"),
        ("=1", "Every name must be a hyperparameter, but got ''"),
        ("lr=fast", "lr must be a finite number, but got 'fast'"),
        ("lr=", "lr must be a finite number, but got ''"),
        ("lr=nan", "lr must be a finite number, but got 'nan'"),
        ("lr=1e999", "lr must be a finite number, but got inf"),
        ("lr=-1", "`lr > 0` must hold, but got lr=-1.0"),
        ("batch_size=6.5", "batch_size must be a whole number, but got 6.5"),
        ("batch_size=1_0", "batch_size must be a whole number, but got '1_0'"),
        ("batch_size=٣٢", "batch_size must be a whole number"),
        ("pretrained=maybe", "pretrained must be true or false, but got 'maybe'"),
        ("pretrained=1", "pretrained must be true or false, but got '1'"),
        ("loss=focall", "loss is one of weighted_ce, ce, focal"),
        ("stages=[1]", "stages"),
        ("stages=[", "--set stages=[...] must be YAML"),
        ("seed=-1", "`0 <= seed <= 4294966272` must hold"),
    ],
)
def test_text_that_does_not_fit_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_setting(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_default_can_be_typed(name: str) -> None:
    default = getattr(TrainConfig(), name)
    assert parse_setting(f"{name}={default}") == (name, default)
