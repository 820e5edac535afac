"""All combinations that a space allows of some hyperparameters, conditions kept."""

from tests.support.searches import make_spec
from tune_btxrd.search.space.combinations import combinations
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials

TEXT = """
monitor: macro_auc
fixed: {image_size: 96}
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  backbone: {choices: [resnet50, test_vit]}
  head: {choices: [linear, mlp], when: {backbone: resnet50}}
  dropout: {low: 0.0, high: 0.5, when: {head: mlp}}
start:
  - {lr: 1.0e-3, backbone: test_vit}
"""
NAMES = ["backbone", "head", "image_size", "dropout"]


def test_conditions_are_kept_and_ranges_count_by_their_ends() -> None:
    found = [tuple(values[name] for name in NAMES) for values in combinations(SearchSpec.from_text(TEXT), NAMES)]
    assert found == [
        ("resnet50", "linear", 96, 0.2),
        ("resnet50", "mlp", 96, 0.0),
        ("resnet50", "mlp", 96, 0.5),
        ("test_vit", "linear", 96, 0.2),
    ]


def test_every_sample_is_among_them() -> None:
    spec = SearchSpec.from_text(TEXT)
    names = ["backbone", "head"]
    known = combinations(spec, names)
    for trial in blind_trials(spec, 50):
        config = spec.suggest(trial)
        assert {name: getattr(config, name) for name in names} in known


def test_without_a_search_of_them_there_is_one() -> None:
    assert combinations(make_spec(), ["backbone", "epochs", "seed"]) == [
        {"backbone": "efficientnet_b0", "epochs": 4, "seed": 42}
    ]
