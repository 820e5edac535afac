"""Settings that cannot take effect, in a config or a search space: notes for people, one line each. Nothing is refused."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_btxrd.config import FIELDS, HEADS, TrainConfig
from tune_btxrd.monitor import GAP, WORST
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials
from tune_btxrd.stages import RECIPES
from tune_btxrd.training.models.names import is_volume_backbone

SAMPLES = 200
RARE = 0.5  # images of a class in an average batch
LOSSES = ("val_loss", "val_criterion", WORST, GAP)  # every other reported value lies between 0 and 1
MANY_EPOCHS = 1000  # enough for every stage of a recipe


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a hyperparameter needs to take effect, in words and as a check."""

    words: str
    holds: Callable[[TrainConfig], bool]


def has_all_stages(config: TrainConfig) -> bool:
    """Whether every stage of a recipe got an epoch; a list says so itself."""
    return not isinstance(config.stages, str) or len(config.stage_list) == len(RECIPES[config.stages](MANY_EPOCHS))


NEEDS: Mapping[str, Need] = {
    "focal_gamma": Need(words="loss: focal", holds=lambda c: c.loss == "focal"),
    "ldam_margin": Need(words="loss: ldam", holds=lambda c: c.loss == "ldam"),
    "ldam_scale": Need(words="loss: ldam", holds=lambda c: c.loss == "ldam"),
    "logit_tau": Need(words="loss: logit_adjusted", holds=lambda c: c.loss == "logit_adjusted"),
    "label_smoothing": Need(
        words="another loss than focal and asymmetric", holds=lambda c: c.loss not in ("focal", "asymmetric")
    ),
    "focal_alpha": Need(words="loss: focal", holds=lambda c: c.loss == "focal"),
    **{
        f"asymmetric_{name}": Need(words="loss: asymmetric", holds=lambda c: c.loss == "asymmetric")
        for name in ("gamma_neg", "gamma_pos", "clip")
    },
    "reweighting": Need(words="reweight_from <= epochs", holds=lambda c: c.reweight_from <= c.epochs),
    "reweight_from": Need(
        words="a reweighting, and reweight_from <= epochs",
        holds=lambda c: c.reweighting != "none" and c.reweight_from <= c.epochs,
    ),
    "momentum": Need(words="optimizer: sgd", holds=lambda c: c.optimizer == "sgd"),
    "reload_best": Need(words="more than one stage", holds=lambda c: len(c.stage_list) > 1),
    "stages": Need(words="more epochs: some of its stages have none", holds=has_all_stages),
    "patience": Need(words="patience and min_epochs < epochs", holds=lambda c: max(c.patience, c.min_epochs) < c.epochs),
    "min_epochs": Need(words="min_epochs < epochs", holds=lambda c: c.min_epochs < c.epochs),
    **{
        name: Need(words="a backbone of volumes", holds=lambda c: is_volume_backbone(c.backbone))
        for name in ("stem_stride", "flip_front", "flip_up", "intensity_shift", "noise")
    },
    **{
        name: Need(words="a backbone of images", holds=lambda c: not is_volume_backbone(c.backbone))
        for name in ("saturation", "hue", "crop_min", "erasing", "border", "blur", "equalize", "invert")
    },
    "pretrained": Need(words="no file of weights: `weights` wins", holds=lambda c: c.weights is None),
}


def config_notes(config: TrainConfig) -> list[str]:
    """Values of one config that differ from their defaults and take no effect."""
    idle = [
        f"{name}={getattr(config, name)} takes no effect: it needs {need.words}."
        for name, need in NEEDS.items()
        if getattr(config, name) != FIELDS[name].default and not need.holds(config)
    ]
    return [*idle, *_of_export({config.head})]


def space_notes(spec: SearchSpec) -> list[str]:
    """What a search sets or searches in vain, found in random configs of its space."""
    trials = blind_trials(spec, SAMPLES)
    drawn = [(spec.suggest(trial), frozenset(trial.params)) for trial in trials]
    notes = []
    for name, need in NEEDS.items():
        asked = [config for config, names in drawn if name in names or name in spec.fixed]
        idle = [config for config in asked if getattr(config, name) != _off(name) and not need.holds(config)]
        if idle and name in spec.fixed and len(idle) == len(asked):
            notes.append(f"{name}: {spec.fixed[name]} is fixed, but takes no effect: it needs {need.words}.")
        elif idle and name not in spec.fixed:
            share = f"{len(idle) / len(asked):.0%} of" if len(idle) < len(asked) else "all"
            notes.append(f"{name} is searched, but takes no effect in {share} random configs: it needs {need.words}.")
    return [*notes, *_of_export({config.head for config, _ in drawn}), *_of_the_search(spec)]


def batch_notes(
    configs: Iterable[Mapping[str, Any]], counts: Sequence[int], class_names: Sequence[str], *, images: int
) -> list[str]:
    """What is odd about batches of a training part with so many images, and so many per class or label.

    Args:
        configs: hold batch_size, accumulate and sampling.
    """
    rarest = min(range(len(counts)), key=lambda index: counts[index])
    notes = []
    for size, times in sorted({(config["batch_size"], config["accumulate"]) for config in configs}):
        shown = f"batch_size={size}" + (f" x accumulate={times}" if times > 1 else "")
        expected, own = size * times * counts[rarest] / images, {"batch_size": size, "accumulate": times}
        if size * times >= images:
            notes.append(f"{shown} holds all {images} training images: an epoch is one step.")
        elif expected < RARE and any(own.items() <= c.items() and c["sampling"] == "natural" for c in configs):
            notes.append(
                f"{shown} holds {expected:.2g} images of {class_names[rarest]} on average ({counts[rarest]} of "
                f"{images}): most steps see none; `sampling: balanced` gives each class its share."
            )
    return notes


def _of_export(heads: Collection[str]) -> list[str]:
    return [f"head: {head} is exported as ONNX alone; plain timm cannot load it." for head in HEADS[1:] if head in heads]


def _of_the_search(spec: SearchSpec) -> list[str]:
    notes = []
    if spec.sampler != "random" and spec.startup_trials >= spec.trials:
        notes.append(
            f"sampler: {spec.sampler} proposes nothing: with startup_trials={spec.startup_trials} all {spec.trials} trials "
            "are random (but for those of `start`)."
        )
    if spec.scheduler != "none" and spec.grace_period >= spec.epochs:
        notes.append(
            f"scheduler: {spec.scheduler} stops no trial: its first rung, epoch {spec.grace_period}, is the last epoch."
        )
    for item in spec.constraint:
        if item.metric not in LOSSES:
            never, always = (item.bound > 1, item.bound <= 0) if item.at_least else (item.bound < 0, item.bound >= 1)
            if never or always:
                words = "never holds" if never else "always holds"
                notes.append(f"constraint: {item} {words}: {item.metric} lies between 0 and 1.")
    for number, values in enumerate(spec.start):
        if values in spec.start[:number]:
            notes.append(f"start: trial {number} repeats trial {spec.start.index(values)}.")
    return notes


def _off(name: str) -> object:
    """The default where it means that a recipe is not used; such a value cannot be in vain."""
    return FIELDS[name].default if name in ("reweighting", "reload_best", "label_smoothing", "stages") else None
