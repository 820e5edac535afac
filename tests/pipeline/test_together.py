"""Settings that do not fit each other end a verb before anything is read, decoded or started."""

from pathlib import Path

import pytest
import timm
import torch

from tests.support.fuzz import run_verb
from tests.support.paths import ROOT
from tests.support.searches import SPACE
from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.together import check_models, model_choices
from tune_btxrd.search.space.spec import SearchSpec

BACKBONES = SPACE.replace("  dropout:", "  backbone: {choices: [resnet50, BACKBONE]}\n  dropout:").replace(
    "dropout: 0.2}", "dropout: 0.2, backbone: resnet50}"
)


def test_a_choice_of_the_space_that_does_not_fit_the_side_is_refused() -> None:
    spec = SearchSpec.from_text(BACKBONES.replace("BACKBONE", "vit_tiny_patch16_224"))
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224 takes 224 px and got image_size=64: --image-size 224"):
        check_models(spec.override({}, {"image_size": 64}))


def test_dropout_and_stages_are_asked_of_the_backbones_that_can_meet_them() -> None:
    text = BACKBONES.replace("BACKBONE", "test_vit").replace("backbone: resnet50}", "backbone: resnet50, stages: one}")
    text = text.replace("start:", "  stages: {choices: [one, two_phase], when: {backbone: resnet50}}\nstart:")
    found = model_choices(SearchSpec.from_text(text).override({"epochs": 12}, {"image_size": 64}))
    assert {(item.backbone, item.has_dropout, item.is_staged) for item in found} == {
        *(("resnet50", drops, staged) for drops in (False, True) for staged in (False, True)),
        ("test_vit", False, False),
        ("test_vit", True, False),
    }


def test_weights_are_looked_for_and_fitted_under_every_backbone(tmp_path: Path) -> None:
    file = tmp_path / "test_efficientnet.pt"
    torch.save(timm.create_model("test_efficientnet", num_classes=7).state_dict(), file)
    spec = SearchSpec.from_text(BACKBONES.replace("BACKBONE", "test_efficientnet").replace("resnet50", "test_resnet"))
    with pytest.raises(ConfigError, match=r"has no test_resnet\.safetensors or"):
        check_models(spec.override({}, {"weights": str(tmp_path)}))
    with pytest.raises(ConfigError, match="Weights must be of this backbone"):
        check_models(spec.override({}, {"weights": str(file)}))
    check_models(TrainConfig(backbone="test_efficientnet", weights=str(file)))


def test_a_path_of_weights_that_trials_would_not_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must name a file or a folder"):
        check_models(TrainConfig(weights=str(tmp_path / "absent.pt")))
    with pytest.raises(ConfigError, match=r"`weights` must be an absolute path, .* but got 'w\.pt': write /"):
        check_models(TrainConfig(weights="w.pt"))


def test_an_unknown_backbone_ends_space_and_train_alike(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(BACKBONES.replace("BACKBONE", "resnet5O"))
    small = str(ROOT / "search_spaces" / "phantom.yaml")
    folders = ("--storage", str(tmp_path / "r"), "--checkpoints", str(tmp_path / "c"), "--cache", str(tmp_path / "cache"))
    for verb in (("space", str(path)), ("train", "--space", small, "--backbone", "resnet5O", "--name", "x", *folders)):
        outcome = run_verb(*verb)
        assert outcome.code == 2
        assert "`backbone` must be a timm model, but got 'resnet5O': did you mean 'resnet50'?" in outcome.error
    assert not (tmp_path / "r").exists() and not (tmp_path / "cache").exists()


def test_a_backbone_that_does_not_take_the_side_ends_space_as_it_ends_a_search(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace("space:", "fixed: {backbone: vit_tiny_patch16_224, image_size: 64}\nspace:"))
    outcome = run_verb("space", str(path))
    assert outcome.code == 2 and "vit_tiny_patch16_224 takes 224 px and got image_size=64" in outcome.error


@pytest.mark.parametrize("choice", ["stages: {choices: [one, two_phase]}", "accumulate: {choices: [1, 2]}"])
def test_what_cannot_be_captured_is_refused_for_every_config_of_a_space(choice: str, tmp_path: Path) -> None:
    path, name = tmp_path / "space.yaml", choice.partition(":")[0]
    first = "one" if name == "stages" else "1"
    space = f"space:\n  lr: {{low: 1.0e-4, high: 1.0e-2, log: true}}\n  {choice}\n"
    path.write_text(f"epochs: 12\nfixed: {{capture: true}}\n{space}start: [{{lr: 1.0e-3, {name}: {first}}}]\n")
    outcome = run_verb("space", str(path))
    assert outcome.code == 2 and "`capture: true` needs" in outcome.error and f"{name}=" in outcome.error
    with pytest.raises(ConfigError, match="but head=mlp is possible"):
        check_models(TrainConfig(capture=True, head="mlp"))
    check_models(TrainConfig(capture=True))
