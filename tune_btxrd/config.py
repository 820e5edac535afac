"""TrainConfig: every hyperparameter of one training run, with its only default, its check and its one-line meaning."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_btxrd.errors import ConfigError
from tune_btxrd.monitor import MONITORS
from tune_btxrd.stages import RECIPES, Stage, stages_of

LOSSES = ("weighted_ce", "ce", "focal", "ldam", "logit_adjusted")  # each a function of training/losses.py
SAMPLING = ("natural", "balanced")
REWEIGHTING = ("none", "sqrt", "effective")
HEADS = ("linear", "mlp", "cosine")  # see training/model.py


def hyperparameter(default: Any, rule: str, check: Callable[[Any], bool], meaning: str, *, shifts: bool = False) -> Any:
    """A dataclass field that carries its rule (as the user reads it), its check and its meaning.

    Args:
        shifts: it changes which class frequencies or margins the model is trained for, so that val_loss compares its values
            unfairly; a space that searches it must be monitored by macro_auc.
    """
    metadata = {"rule": rule, "check": check, "meaning": meaning, "shifts": shifts}
    return dataclasses.field(default=default, metadata=metadata)


def word(default: str, name: str, words: tuple[str, ...], meaning: str, *, shifts: bool = False) -> Any:
    """A hyperparameter that is one of some words."""
    rule = f"{name} is one of {', '.join(words)}"
    return hyperparameter(default, rule, lambda value: value in words, meaning, shifts=shifts)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The hyperparameters of one training run. The defaults are the hand-made config.

    Raises:
        ConfigError: a value breaks its rule; the message names field, rule and value.
    """

    lr: float = hyperparameter(1e-3, "lr > 0", lambda v: v > 0, "peak learning rate of AdamW")
    weight_decay: float = hyperparameter(1e-4, "weight_decay >= 0", lambda v: v >= 0, "decoupled weight decay of AdamW")
    dropout: float = hyperparameter(0.2, "0 <= dropout < 1", lambda v: 0 <= v < 1, "dropout before the classifier")
    epochs: int = hyperparameter(30, "epochs >= 1", lambda v: v >= 1, "epoch budget; the cosine ends here")
    batch_size: int = hyperparameter(
        32, "batch_size >= 2", lambda v: v >= 2, "images per step; a last partial batch is kept"
    )
    image_size: int = hyperparameter(
        224, "32 <= image_size <= 1024", lambda v: 32 <= v <= 1024, "side of the square input, px"
    )
    backbone: str = hyperparameter("efficientnet_b0", "backbone is a timm model", bool, "timm model name")
    pretrained: bool = hyperparameter(
        True, "pretrained is true or false", lambda v: True, "start from timm's ImageNet weights"
    )
    weights: str | None = hyperparameter(
        None,
        "weights is a file or folder",
        lambda v: v is None or bool(v),
        "start from this file instead, or from <backbone>.safetensors or .pt in this folder",
    )
    head: str = word(
        "linear", "head", HEADS, "linear: timm's own; mlp: 512 hidden units; cosine: of angles, for ldam", shifts=True
    )
    stages: str | tuple[Any, ...] = hyperparameter(
        "one",
        f"stages is one of {', '.join(RECIPES)}, or a list",
        bool,
        "which layers train when, with which share of lr; see tune_btxrd/stages.py",
    )
    reload_best: bool = hyperparameter(
        False, "reload_best is true or false", lambda v: True, "a new stage starts from the best epoch so far"
    )
    min_lr: float = hyperparameter(1e-6, "min_lr >= 0", lambda v: v >= 0, "learning rate at the end of the cosine")
    patience: int = hyperparameter(7, "patience >= 1", lambda v: v >= 1, "epochs without improvement before stopping")
    min_delta: float = hyperparameter(0.0, "min_delta >= 0", lambda v: v >= 0, "smallest gain of the monitor that improves")
    min_epochs: int = hyperparameter(1, "min_epochs >= 1", lambda v: v >= 1, "patience stops no training before this epoch")
    monitor: str = word("val_loss", "monitor", tuple(MONITORS), "value that names the best epoch and stops the training")
    flip: float = hyperparameter(0.5, "0 <= flip <= 1", lambda v: 0 <= v <= 1, "probability of a left-right mirror")
    rotation: float = hyperparameter(15.0, "0 <= rotation <= 180", lambda v: 0 <= v <= 180, "largest rotation, degrees")
    scale_min: float = hyperparameter(0.8, "0 < scale_min <= 1", lambda v: 0 < v <= 1, "smallest scale; the largest is 1")
    shift: float = hyperparameter(0.05, "0 <= shift < 1", lambda v: 0 <= v < 1, "largest shift, share of the side")
    brightness: float = hyperparameter(0.2, "0 <= brightness <= 1", lambda v: 0 <= v <= 1, "largest relative change")
    contrast: float = hyperparameter(0.2, "0 <= contrast <= 1", lambda v: 0 <= v <= 1, "largest relative change")
    saturation: float = hyperparameter(
        0.0, "0 <= saturation <= 1", lambda v: 0 <= v <= 1, "largest relative change; colour images only"
    )
    hue: float = hyperparameter(
        0.0, "0 <= hue <= 180", lambda v: 0 <= v <= 180, "largest turn of the colour circle, degrees; colour images only"
    )
    crop_min: float = hyperparameter(
        1.0, "0 < crop_min <= 1", lambda v: 0 < v <= 1, "random resized crop: smallest share of the area; 1 crops nothing"
    )
    erasing: float = hyperparameter(
        0.0, "0 <= erasing <= 1", lambda v: 0 <= v <= 1, "probability that a rectangle of the image is erased"
    )
    loss: str = word("weighted_ce", "loss", LOSSES, "what training minimises; see training/losses.py", shifts=True)
    label_smoothing: float = hyperparameter(
        0.0,
        "0 <= label_smoothing < 1",
        lambda v: 0 <= v < 1,
        "share of a label spread over all classes; all losses but focal",
    )
    focal_gamma: float = hyperparameter(
        2.0, "focal_gamma >= 0", lambda v: v >= 0, "focal: how far easy images count less; 0 is cross-entropy", shifts=True
    )
    ldam_margin: float = hyperparameter(
        0.5, "ldam_margin >= 0", lambda v: v >= 0, "ldam: margin of the rarest class, in logits", shifts=True
    )
    ldam_scale: float = hyperparameter(
        30.0, "ldam_scale > 0", lambda v: v > 0, "ldam: factor of the logits within the loss", shifts=True
    )
    logit_tau: float = hyperparameter(
        1.0, "logit_tau >= 0", lambda v: v >= 0, "logit_adjusted: factor of the log class frequencies", shifts=True
    )
    reweighting: str = word("none", "reweighting", REWEIGHTING, "class weights from epoch reweight_from on", shifts=True)
    reweight_from: int = hyperparameter(
        1, "reweight_from >= 1", lambda v: v >= 1, "first epoch with reweighting; later than 1 is deferred", shifts=True
    )
    sampling: str = word(
        "natural", "sampling", SAMPLING, "natural: each image once; balanced: classes alike, with repetition", shifts=True
    )
    drop_last: bool = hyperparameter(
        False, "drop_last is true or false", lambda v: True, "leave out a last partial batch of training"
    )
    clip: float = hyperparameter(
        0.0, "clip >= 0", lambda v: v >= 0, "largest norm of all gradients together; 0 clips nothing"
    )
    precision: str = word("auto", "precision", ("auto", "fp32", "bf16"), "bf16: AMP; auto: bf16 where CUDA has it")
    tf32: bool = hyperparameter(
        True, "tf32 is true or false", lambda v: True, "CUDA may round the factors of float32 products to TF32"
    )
    capture: bool = hyperparameter(
        False, "capture is true or false", lambda v: True, "CUDA runs a training step as one captured graph"
    )
    seed: int = hyperparameter(42, "seed >= 0", lambda v: v >= 0, "decides head, order, augmentation, dropout")

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, check_value(name, getattr(self, name)))
        if self.min_lr > self.lr:
            raise ConfigError(f"`min_lr <= lr` must hold, but got min_lr={self.min_lr!r}, lr={self.lr!r}.")
        stages_of(self.stages, self.epochs)  # says what is wrong with them

    @property
    def stage_list(self) -> list[Stage]:
        """The stages that `stages` stands for; one where everything trains at once."""
        return stages_of(self.stages, self.epochs)

    @property
    def is_staged(self) -> bool:
        """Whether anything is ever frozen or trained at a rate of its own; else the optimizer has a single group."""
        return any(stage.trains != "all" or stage.lr_head != stage.lr_backbone for stage in self.stage_list)

    def replace(self, **changes: Any) -> "TrainConfig":
        """The same config with some values changed; unknown names raise ConfigError."""
        return TrainConfig.from_dict(self.to_dict() | changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: name -> value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """A complete config from some of its values; unknown names raise ConfigError with the nearest name."""
        for name in values:
            check_name(name)
        return cls(**values)


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(TrainConfig)}


def check_name(name: str) -> None:
    """Raises ConfigError, with the nearest known name, where no hyperparameter is called so."""
    if name not in FIELDS:
        near = difflib.get_close_matches(str(name), FIELDS, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(FIELDS)}."
        raise ConfigError(f"Every name must be a hyperparameter, but got {shown(name)}: {cure}")


def check_value(name: str, value: Any) -> Any:
    """The value of one hyperparameter as its field's type, within its own rule; rules between fields are TrainConfig's.

    Raises:
        ConfigError: another type, or outside the rule.
    """
    field = FIELDS[name]
    value = _of_type(name, value, field.type)
    if not field.metadata["check"](value):
        raise ConfigError(f"`{field.metadata['rule']}` must hold, but got {name}={shown(value)}.")
    return value


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut after 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _of_type(name: str, value: Any, kind: Any) -> Any:
    """The value as its field's type: whole floats become ints, ints become floats; text never becomes a number."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else value  # too large: refused below
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in (int, float) and isinstance(value, str):
        hint = ": YAML reads 1e-5 as text, write 1.0e-5" if re.search(r"\d[eE]", value) else ""
        raise ConfigError(f"{name} must be a number, but got the text {shown(value)}{hint}.")
    if name == "stages" and isinstance(value, list | tuple) and all(isinstance(entry, Mapping) for entry in value):
        return tuple(dict(entry) for entry in value)
    allowed = (str, type(None)) if name == "weights" else (str,) if name == "stages" else (kind,)
    if not isinstance(value, allowed) or (kind in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{name} must be of type {getattr(kind, '__name__', kind)}, but got {shown(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, but got {value}.")
    return value
