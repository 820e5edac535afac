"""What is set or searched in vain is said, and what takes effect is not."""

import pytest

from tests.support.paths import ROOT
from tests.support.searches import SPACE
from tune_btxrd.config import TrainConfig
from tune_btxrd.search.space.effects import NEEDS, batch_notes, config_notes, space_notes
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.label_losses import LABEL_LOSSES
from tune_btxrd.tasks.losses import LOSSES

DROPOUT, START = "  dropout: {low: 0.0, high: 0.5}", "dropout: 0.2}"


def notes(*, top: str = "", searched: str = DROPOUT, start: str = START) -> str:
    text = SPACE.replace("trials: 6", f"trials: 6\n{top}").replace(DROPOUT, searched).replace(START, start)
    return "\n".join(space_notes(SearchSpec.from_text(text)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "ce", "focal_gamma": 3.0}, "focal_gamma=3.0 takes no effect: it needs loss: focal."),
        (
            {"reweighting": "sqrt", "reweight_from": 31},
            "reweighting=sqrt takes no effect: it needs reweight_from <= epochs.",
        ),
        ({"reweight_from": 5}, "reweight_from=5 takes no effect: it needs a reweighting"),
        ({"stages": "two_phase", "epochs": 2}, "stages=two_phase takes no effect: it needs more epochs"),
        ({"stages": "three_stage", "epochs": 4}, "stages=three_stage takes no effect"),
        ({"reload_best": True}, "reload_best=True takes no effect: it needs more than one stage."),
        (
            {"loss": "focal", "label_smoothing": 0.1},
            "label_smoothing=0.1 takes no effect: it needs another loss than focal and asymmetric.",
        ),
        ({"momentum": 0.5}, "momentum=0.5 takes no effect: it needs optimizer: sgd."),
        ({"min_epochs": 30}, "min_epochs=30 takes no effect"),
        ({"patience": 40}, "patience=40 takes no effect"),
        ({"pretrained": False, "weights": "a.pt"}, "pretrained=False takes no effect"),
        ({"head": "mlp"}, "head: mlp is exported as ONNX alone"),
    ],
)
def test_a_value_in_vain_is_said(changes: dict[str, object], words: str) -> None:
    assert words in "\n".join(config_notes(TrainConfig.from_dict(changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 3, "stages": "two_phase", "reload_best": True},
        {"epochs": 5, "stages": "three_stage"},
        {"reweighting": "sqrt", "reweight_from": 30},
        {"loss": "ldam", "ldam_margin": 0.3, "label_smoothing": 0.1},
        {"patience": 29, "min_epochs": 29},
        {"optimizer": "sgd", "momentum": 0.5},
        {"epochs": 2},  # the default patience is none of the user's
    ],
)
def test_what_takes_effect_is_not_said(changes: dict[str, object]) -> None:
    assert config_notes(TrainConfig.from_dict(changes)) == []


def test_needs_agree_with_what_the_losses_read() -> None:
    reads: dict[str, set[str]] = {}
    for word, loss in [*LOSSES.items(), *LABEL_LOSSES.items()]:
        reads[word] = reads.get(word, set()) | set(loss.reads)
    read = set().union(*reads.values())
    assert read <= NEEDS.keys(), "a loss reads a field that others ignore: give it a row in NEEDS"
    for name in read:
        for word, fields in reads.items():
            assert NEEDS[name].holds(TrainConfig(loss=word)) == (name in fields), (name, word)


def test_what_a_space_searches_in_vain_is_said_with_its_share() -> None:
    late = "  reweight_from: {low: 1, high: 8}"  # of 4 epochs
    said = notes(top="monitor: macro_auc\nfixed: {reweighting: sqrt}", searched=late, start="reweight_from: 1}")
    share = int(said.split("no effect in ")[1].split("%")[0])
    assert 35 <= share <= 65 and "reweight_from is searched" in said and "reweighting: sqrt" not in said
    said = notes(top="monitor: macro_auc", searched="  focal_gamma: {low: 0.0, high: 5.0}", start="focal_gamma: 2.0}")
    assert "focal_gamma is searched, but takes no effect in all random configs: it needs loss: focal." in said
    loss = "  loss: {choices: [ce, focal]}\n  focal_gamma: {low: 0.5, high: 5.0"
    start = "loss: focal, focal_gamma: 2.0}"
    assert "focal_gamma" in notes(top="monitor: macro_auc", searched=loss + "}", start=start)
    assert "focal_gamma" not in notes(top="monitor: macro_auc", searched=loss + ", when: {loss: focal}}", start=start)


@pytest.mark.parametrize(
    ("top", "words"),
    [
        (
            "fixed: {stages: two_phase, reload_best: true, loss: focal, label_smoothing: 0.1}",
            "label_smoothing: 0.1 is fixed",
        ),
        ("reduction_factor: 4", ""),
    ],
)
def test_what_is_fixed_in_vain_is_said(top: str, words: str) -> None:
    assert words in notes(top=top)
    assert not words or "stages" not in notes(top=top)


def test_a_search_that_cannot_learn_or_stop_is_said() -> None:
    spec = SearchSpec.from_text(SPACE)
    assert space_notes(spec) == []
    short = spec.override({"trials": 3, "epochs": 1}, {})
    assert [note.split(":")[0] for note in space_notes(short)] == ["sampler", "scheduler"]
    twice = SPACE + "  - {lr: 1.0e-3, dropout: 0.2}\n"
    assert space_notes(SearchSpec.from_text(twice)) == ["start: trial 1 repeats trial 0."]


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        ('val_recall_malignant: ">= 60"', "val_recall_malignant >= 60 never holds"),
        ('val_acc: "<= -0.1"', "val_acc <= -0.1 never holds"),
        ('val_macro_auc: ">= 0"', "val_macro_auc >= 0 always holds"),
        ('val_recall_a: "<= 1"', "val_recall_a <= 1 always holds"),
        ('val_recall_a: ">= 1"', ""),
        ('val_loss: ">= 60"', ""),
    ],
)
def test_a_demand_that_never_or_always_holds_is_said(demand: str, words: str) -> None:
    said = "\n".join(space_notes(SearchSpec.from_text(SPACE + f"constraint: {{{demand}}}\n")))
    assert words in said and (words != "" or said == "")


def test_shipped_spaces_search_nothing_in_vain() -> None:
    paths = sorted((ROOT / "search_spaces").glob("*.yaml"))
    assert paths
    for path in paths:
        assert [note for note in space_notes(SearchSpec.load(path)) if "ONNX" not in note] == [], path.name


def test_batches_are_compared_with_the_images_of_each_class() -> None:
    natural, balanced = ({"batch_size": 8, "accumulate": 1, "sampling": sampling} for sampling in ("natural", "balanced"))
    names = ("Normal", "Benign", "Malignant")
    (said,) = batch_notes([natural], (600, 370, 30), names, images=1000)
    assert said.startswith("batch_size=8 holds 0.24 images of Malignant on average (30 of 1000)")
    assert (
        batch_notes([balanced], (600, 370, 30), names, images=1000)
        == []
        == batch_notes([natural], (600, 300, 100), names, images=1000)
    )
    assert batch_notes([natural | {"accumulate": 4}], (600, 370, 30), names, images=1000) == []
    assert batch_notes([natural | {"accumulate": 4}], (20, 6, 6), names, images=32) == [
        "batch_size=8 x accumulate=4 holds all 32 training images: an epoch is one step."
    ]
    assert batch_notes([natural], (3, 2, 2), names, images=7) == [
        "batch_size=8 holds all 7 training images: an epoch is one step."
    ]
