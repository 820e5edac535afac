"""Backbone, head and side: what does not fit is refused with a value that does. timm's own names are the truth."""

from pathlib import Path
from typing import ClassVar

import pytest
from timm.models import _registry
from torch import Tensor, nn

from tune_btxrd.config import HEADS
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.models import names
from tune_btxrd.training.models.fit import check_fit
from tune_btxrd.training.models.names import ANY_CONFIG, ModelChoice, backbone_names, check_backbone


def fit(backbone: str, image_size: int, *, head: str = "linear", **asked: bool) -> None:
    check_fit([ModelChoice(backbone=backbone, head=head, image_size=image_size, **asked)], num_classes=3)


def test_names_read_from_the_source_are_those_of_timm() -> None:
    assert backbone_names() == set(_registry._model_entrypoints)


def test_a_backbone_of_this_project_is_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("@register_model\ndef my_net(pretrained=False):\n    pass\n")
    monkeypatch.setattr(names, "__file__", str(tmp_path / "names.py"))
    backbone_names.cache_clear()
    try:
        check_backbone("my_net")
        assert len(backbone_names()) == len(_registry._model_entrypoints) + 1
    finally:
        backbone_names.cache_clear()


@pytest.mark.parametrize("backbone", sorted(ANY_CONFIG))
def test_backbones_that_are_not_checked_fit_everywhere(backbone: str) -> None:
    for size in (32, 33, 47, 64, 97, 224, 1023, 1024):
        fit(backbone, size)
    for head in HEADS:
        fit(backbone, 64, head=head, has_dropout=True, is_staged=True)


class PlainNet(nn.Module):
    """A classifier without dropout, whose layers timm does not name."""

    pretrained_cfg: ClassVar[dict[str, str]] = {"classifier": "fc"}

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(images).mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.fc


def test_dropout_and_stages_that_a_backbone_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        _registry._model_entrypoints, "plain_net", lambda pretrained, num_classes, **_: PlainNet(num_classes)
    )
    fit("plain_net", 64)
    fit("plain_net", 64, head="mlp", has_dropout=True)  # which brings a dropout of its own
    with pytest.raises(ConfigError, match="`dropout` must be 0 with plain_net"):
        fit("plain_net", 64, has_dropout=True)
    with pytest.raises(ConfigError, match="Stages need a backbone whose layers timm names, but PlainNet"):
        fit("plain_net", 64, is_staged=True)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [("deepseek_vit_412m_enc", "must be a classifier"), ("gemma4_vit_167m_enc", "timm must be able to build gemma4")],
)
def test_encoders_of_timm_are_no_classifiers(backbone: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(backbone, 224)


@pytest.mark.parametrize(
    ("backbone", "size", "words", "cure"),
    [
        ("vit_tiny_patch16_224", 256, "takes 224 px and got image_size=256: --image-size 224", 224),
        ("swin_tiny_patch4_window7_224", 64, "takes 224 px and got image_size=64", 224),
        ("inception_v3", 64, "takes at least 96 px and got image_size=64: --image-size 96", 96),
        ("volo_d1_224", 256, "takes 224 px", 224),
    ],
)
def test_a_side_that_does_not_fit_is_refused_and_the_cure_fits(backbone: str, size: int, words: str, cure: int) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(backbone, size)
    fit(backbone, cure)


def test_heads_and_tags_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="`head: mlp` needs a backbone with a linear classifier, but levit_128 has none"):
        fit("levit_128", 224, head="mlp")
    with pytest.raises(ConfigError, match=r"timm must be able to build resnet50\.nosuch, but cannot"):
        fit("resnet50.nosuch", 64)


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "tv_resnext50_32x4d", "test_vit"])
def test_names_with_tags_and_old_names_are_known(name: str) -> None:
    check_backbone(name)


@pytest.mark.parametrize("name", ["", "x", "resnet5O", "hf-hub:a/b", "local-dir:/tmp", "../resnet50", "x" * 5000])
def test_other_names_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_backbone(name)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
