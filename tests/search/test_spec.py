"""SearchSpec: what a space suggests, which configs it completes, what a flag may override."""

import optuna
import pytest

from tests.support.paths import ROOT
from tests.support.searches import SPACE, make_spec
from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.columns import score_columns
from tune_btxrd.search.space.describe import explain
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials, distribution

SHIPPED = sorted((ROOT / "search_spaces").glob("*.yaml"))

CONDITIONAL = """
space:
  backbone: {choices: [efficientnet_b0, mobilenetv3_small_050]}
  batch_size: {low: 8, high: 64, step: 8}
  flip: {low: 0.0, high: 0.5, when: {backbone: efficientnet_b0}}
  patience: {low: 2, high: 9, when: {backbone: [mobilenetv3_small_050], batch_size: [8, 16]}}
fixed: {min_lr: 0.0}
start:
  - {backbone: efficientnet_b0, batch_size: 32, flip: 0.5}
  - {backbone: mobilenetv3_small_050, batch_size: 16, patience: 4}
"""


def test_every_shipped_space_is_loaded_and_sampled() -> None:
    assert SHIPPED, "no YAML in search_spaces/"
    for path in SHIPPED:
        spec = SearchSpec.load(path)
        for trial in blind_trials(spec, 50):
            config = spec.suggest(trial)
            assert config.epochs == spec.epochs and config.seed == spec.seed
        assert spec.hand_made == spec.config(spec.start[0])


def test_hand_made_config_of_the_shipped_space_is_the_default_one() -> None:
    spec = SearchSpec.load(ROOT / "search_spaces" / "btxrd.yaml")
    assert spec.hand_made == TrainConfig()


def test_suggest_asks_conditional_dimensions_only_where_they_are_active() -> None:
    spec = SearchSpec.from_text(CONDITIONAL)
    trial = optuna.trial.FixedTrial({"backbone": "efficientnet_b0", "batch_size": 16, "flip": 0.25, "patience": 3})
    config = spec.suggest(trial)
    assert (config.flip, config.patience, config.batch_size) == (0.25, TrainConfig().patience, 16)
    other = optuna.trial.FixedTrial({"backbone": "mobilenetv3_small_050", "batch_size": 8, "flip": 0.25, "patience": 3})
    config = spec.suggest(other)
    assert (config.flip, config.patience) == (TrainConfig().flip, 3)
    assert set(other.params) == {"backbone", "batch_size", "patience"}


def test_a_child_of_an_inactive_dimension_stays_inactive() -> None:
    text = CONDITIONAL.replace("fixed:", "  weight_decay: {low: 0.0, high: 0.1, when: {flip: 0.5}}\nfixed:")
    start = "{backbone: efficientnet_b0, batch_size: 32, flip: 0.5"
    spec = SearchSpec.from_text(text.replace(start, start + ", weight_decay: 0.05"))
    assert spec.complete({"backbone": "mobilenetv3_small_050", "batch_size": 64}).weight_decay == TrainConfig().weight_decay


def test_samples_keep_types_steps_and_conditions() -> None:
    spec = SearchSpec.from_text(CONDITIONAL)
    for trial in blind_trials(spec, 40):
        config = spec.suggest(trial)
        assert isinstance(config.batch_size, int) and config.batch_size % 8 == 0
        assert ("flip" in trial.params) == (config.backbone == "efficientnet_b0")
        assert ("patience" in trial.params) == (config.backbone != "efficientnet_b0" and config.batch_size <= 16)
        assert trial.distributions == {item.name: distribution(item) for item in spec.space if item.name in trial.params}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": "efficientnet_b0", "batch_size": 32}, "flip is missing"),
        (
            {"backbone": "efficientnet_b0", "batch_size": 32, "flip": 0.9},
            "outside 0 .. 0.5, when backbone is efficientnet_b0",
        ),
        ({"backbone": "efficientnet_b0", "batch_size": 33, "flip": 0.5}, "outside 8 .. 64 step 8"),
        ({"backbone": "efficientnet_b0", "batch_size": 32, "flipp": 0.5}, "did you mean 'flip'?"),
        (
            {"backbone": "efficientnet_b0", "batch_size": 32, "flip": 0.5, "patience": 3},
            "patience is searched as 2 .. 9, when",
        ),
        ({"backbone": "resnet18", "batch_size": 32}, "backbone='resnet18' is outside"),
    ],
)
def test_a_start_config_outside_the_space_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SearchSpec.from_text(CONDITIONAL).complete(values)


def test_override_refuses_what_the_space_searches_and_changes_the_rest() -> None:
    spec = make_spec()
    with pytest.raises(ConfigError, match=r"lr=0.01 is searched there \(1e-05 .. 0.01 \(log\)\)"):
        spec.override({}, {"lr": 0.01})
    changed = spec.override({"trials": 9}, {"batch_size": 16})
    assert (changed.trials, changed.hand_made.batch_size, spec.trials) == (9, 16, 6)


def test_override_of_epochs_draws_the_grace_period_down_unless_it_is_given() -> None:
    spec = SearchSpec.from_text(SPACE.replace("grace_period: 1", "grace_period: 3"))
    assert spec.override({"epochs": 2}, {}).grace_period == 2
    assert spec.override({"epochs": 4, "grace_period": 1}, {}).grace_period == 1


def test_override_takes_hyperparameters_of_the_whole_search_as_its_settings() -> None:
    spec = make_spec().override({"trials": 9}, {"epochs": 7, "seed": 5, "batch_size": 16})
    assert (spec.epochs, spec.seed, spec.trials, dict(spec.fixed)["batch_size"]) == (7, 5, 9, 16)
    assert "epochs" not in spec.fixed and (spec.hand_made.epochs, spec.hand_made.seed) == (7, 5)


def test_a_constraint_must_name_a_value_of_this_dataset() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignnat: ">= 0.6", val_loss: "<= 1"}\n')
    with pytest.raises(ConfigError, match=r"did you mean 'val_recall_malignant'. It is the recall Malignant."):
        spec.check_metrics(score_columns(("Normal", "Malignant")))
    SearchSpec.from_text(SPACE + 'constraint: {val_recall_a: ">= 0.6"}\n').check_metrics(score_columns(("A",)))


def test_violation_is_positive_where_the_constraint_is_broken() -> None:
    at_least, at_most = SearchSpec.from_text(
        SPACE + 'constraint: {val_recall_a: ">= 0.6", val_loss: "<= 1e+0"}\n'
    ).constraint
    assert at_least.violation(0.5) == pytest.approx(0.1) and at_least.violation(0.6) == 0
    assert at_most.violation(1.5) == 0.5 and str(at_most) == "val_loss <= 1"


def test_explain_says_what_is_searched_and_prints_samples() -> None:
    lines = explain(SearchSpec.from_text(CONDITIONAL), samples=5)
    text = "\n".join(lines)
    assert "patience    2 .. 9, when backbone is mobilenetv3_small_050 and batch_size is 8 or 16" in text
    assert "trial 0 (hand-made): backbone=efficientnet_b0  batch_size=32  flip=0.5" in text
    assert "min_lr      0.0" in text
    assert len(lines) - lines.index("5 random samples") == 6
    assert explain(make_spec(confirm=0))[4].startswith("confirmation  none: the search score")


SHIFTING = """
monitor: MONITOR
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  SEARCHED
start: [{lr: 1.0e-3, START}]
"""


@pytest.mark.parametrize(
    ("searched", "start"),
    [
        ("loss: {choices: [ce, focal]}", "loss: ce"),
        ("sampling: {choices: [natural, balanced]}", "sampling: natural"),
        ("reweighting: {choices: [none, sqrt]}", "reweighting: none"),
        ("focal_gamma: {low: 0.0, high: 5.0}", "focal_gamma: 2.0"),
        ("head: {choices: [linear, cosine]}", "head: linear"),
    ],
)
@pytest.mark.parametrize("monitor", ["val_loss", "macro_f1", "macro_auc"])
def test_losses_are_compared_by_auc_alone(searched: str, start: str, monitor: str) -> None:
    text = SHIFTING.replace("MONITOR", monitor).replace("SEARCHED", searched).replace("START", start)
    if monitor == "macro_auc":
        assert SearchSpec.from_text(text).hand_made.monitor == "macro_auc"
        return
    with pytest.raises(
        ConfigError,
        match=r"searches \w+ must have `monitor: macro_auc or calibrated_loss`, but got .*natural class frequencies",
    ):
        SearchSpec.from_text(text)


def test_the_monitor_belongs_to_the_search() -> None:
    with pytest.raises(ConfigError, match="`monitor` is a setting of the whole search"):
        SearchSpec.from_text(
            SHIFTING.replace("MONITOR", "val_loss\nfixed: {monitor: macro_f1}")
            .replace("SEARCHED\n", "\n")
            .replace(", START", "")
        )


def test_stages_in_yaml_by_name_and_as_a_list() -> None:
    text = SHIFTING.replace("MONITOR", "val_loss\nepochs: 9\nfixed: {stages: LIST}")
    text = text.replace("SEARCHED", "").replace(", START", "")
    listed = "[{epochs: 2, trains: head}, {epochs: rest, trains: all, lr_backbone: 0.1}]"
    spec = SearchSpec.from_text(text.replace("LIST", listed))
    assert [(stage.epochs, stage.lr_backbone) for stage in spec.hand_made.stage_list] == [(2, 1.0), (7, 0.1)]
    assert len(SearchSpec.from_text(text.replace("LIST", "two_phase")).hand_made.stage_list) == 2
    with pytest.raises(ConfigError, match="add up to epochs"):
        SearchSpec.from_text(text.replace("LIST", "[{epochs: 3, trains: all}]"))
