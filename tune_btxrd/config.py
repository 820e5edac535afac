"""TrainConfig: every hyperparameter of one training run, with its only default, its bounds and its one-line meaning."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tune_btxrd.errors import ConfigError
from tune_btxrd.monitor import ALL_IMAGES, MONITORS, OBJECTIVES, Monitor, monitor_of
from tune_btxrd.stages import RECIPES, Stage, stages_of

CLASS_LOSSES = ("weighted_ce", "ce", "focal", "ldam", "logit_adjusted")  # each a function of tasks/losses.py
LABEL_LOSSES = ("weighted_bce", "bce", "focal", "asymmetric")  # each a function of tasks/label_losses.py
LOSSES = tuple(dict.fromkeys([*CLASS_LOSSES, *LABEL_LOSSES]))
SAMPLING = ("natural", "balanced")
REWEIGHTING = ("none", "sqrt", "effective")
HEADS = ("linear", "mlp", "cosine")  # see training/models/heads.py
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "adam", "sgd")  # see training/schedule.py
LARGEST_SEED = 2**32 - 2**10  # NumPy's is below 2**32; repeats and further trainings count up from it
LARGEST_WHOLE = 10**10  # far beyond sense; what follows (Optuna, NumPy) counts in 64 bits
LARGEST_FLOAT = 1e300  # differences and sums of two stay finite
NUMBER_AS_TEXT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+")  # what YAML 1.1 leaves as text


@dataclass(frozen=True, kw_only=True)
class Field:
    """One named value: its type, default, bounds and meaning. Checks values, and says what is wrong with them.

    Attributes:
        kind: int, float, bool or str.
        above, at_least, below, at_most: bounds of a number, as far as it has them.
        choices: the only texts allowed; None: any text that is not empty.
        is_optional: None is allowed; is_list: a list of mappings is allowed.
        changes_prior: it changes which class frequencies or margins the model is trained for, so that val_loss compares
            its values unfairly; a space that searches it must be monitored by macro_auc or calibrated_loss.
    """

    name: str
    kind: type
    default: Any
    meaning: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None
    is_optional: bool = False
    is_list: bool = False
    changes_prior: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is a whole or any finite number."""
        return self.kind in (int, float)

    @property
    def rule(self) -> str:
        """What must hold for a value, as the user reads it, e.g. `0 <= dropout < 1`."""
        if self.choices is not None:
            return f"{self.name} is one of {', '.join(self.choices)}{', or a list' if self.is_list else ''}"
        if not self.is_number:
            return f"{self.name} is {'true or false' if self.kind is bool else 'a text'}"
        low = self.above if self.at_least is None else self.at_least
        high = self.below if self.at_most is None else self.at_most
        if high is not None:
            start = "" if low is None else f"{low:.10g} {'<' if self.at_least is None else '<='} "
            return f"{start}{self.name} {'<' if self.at_most is None else '<='} {high:.10g}"
        return (
            f"{self.name} {'>' if self.at_least is None else '>='} {low:g}"
            if low is not None
            else f"{self.name} is a number"
        )

    def checked(self, value: Any) -> Any:
        """The value as the field's type, within its bounds. Raises: ConfigError."""
        value = self._typed(value)
        if isinstance(value, self.kind) and not self._holds(value):
            raise ConfigError(f"`{self.rule}` must hold, but got {self.name}={shown(value)}.")
        return value

    def _holds(self, value: Any) -> bool:
        if not self.is_number:
            return self.kind is bool or (value in self.choices if self.choices is not None else bool(value))
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def _typed(self, value: Any) -> Any:
        """Whole floats become ints, ints become floats; text never becomes a number."""
        if value is None and self.is_optional:
            return None
        if self.is_list and isinstance(value, list | tuple) and all(isinstance(entry, Mapping) for entry in value):
            return tuple(dict(entry) for entry in value)
        if self.is_number:
            return self._number(value)
        if isinstance(value, self.kind):
            return value
        kind = "true or false" if self.kind is bool else "a text or a list of mappings" if self.is_list else "a text"
        hint = ": YAML reads a bare no, off, yes, on as true or false" if isinstance(value, bool) else ""
        raise ConfigError(f"{self.name} must be {kind}, but got {shown(value)}{hint}.")

    def _number(self, value: Any) -> int | float:
        if isinstance(value, str) and NUMBER_AS_TEXT.fullmatch(value):
            cure = re.sub(r"e(\d)", r"e+\1", f"{float(value):.1e}")
            raise ConfigError(
                f"{self.name} must be a number, but YAML reads {value[:40]} as text: write {cure} with a dot and a sign."
            )
        kind, largest = ("a whole number", LARGEST_WHOLE) if self.kind is int else ("a finite number", LARGEST_FLOAT)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= largest or self.kind(value) != value:  # NaN is not below anything
            raise ConfigError(f"{self.name} must be {kind}, but got {shown(value)}.")
        return int(value) if self.kind is int else float(value)


def number(
    default: float,
    meaning: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    changes_prior: bool = False,
) -> Any:
    """A dataclass field that holds a number: a whole one where it is annotated `int`."""
    bounds = {"above": above, "at_least": at_least, "below": below, "at_most": at_most}
    return dataclasses.field(default=default, metadata={"meaning": meaning, "changes_prior": changes_prior, **bounds})


def choice(
    default: str, meaning: str, *, choices: tuple[str, ...], is_list: bool = False, changes_prior: bool = False
) -> Any:
    """A dataclass field that holds one of some words, or (`is_list`) a list of mappings."""
    kind = {"kind": str, "choices": choices, "is_list": is_list}
    metadata = {**kind, "meaning": meaning, "changes_prior": changes_prior}
    return dataclasses.field(default=default, metadata=metadata)


def value(default: Any, meaning: str, *, is_optional: bool = False) -> Any:
    """A dataclass field that holds a switch or a text; a text that may be None has None as its default."""
    kind = str if is_optional else type(default)
    return dataclasses.field(default=default, metadata={"kind": kind, "meaning": meaning, "is_optional": is_optional})


def fields_of(record: type) -> dict[str, Field]:
    """The fields of a dataclass that `number`, `choice` and `value` made, by name."""
    made = [item for item in dataclasses.fields(record) if "meaning" in item.metadata]
    return {
        item.name: Field(**{"name": item.name, "kind": item.type, "default": item.default, **item.metadata}) for item in made
    }


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The hyperparameters of one training run. The defaults are the hand-made config for BTXRD.

    Raises:
        ConfigError: a value breaks its rule; the message names field, rule and value.
    """

    lr: float = number(1e-3, "peak learning rate", above=0)
    weight_decay: float = number(1e-4, "adamw: decoupled weight decay; adam, sgd: L2 in the gradient", at_least=0)
    optimizer: str = choice("adamw", "what takes the steps", choices=OPTIMIZERS)
    backbone_share: float = number(1.0, "learning rate of the backbone as a share of the head's", above=0, at_most=100)
    momentum: float = number(0.9, "sgd: share of the last step that is kept", at_least=0, below=1)
    dropout: float = number(0.2, "dropout before the classifier", at_least=0, below=1)
    epochs: int = number(30, "epoch budget; the cosine ends here", at_least=1)
    batch_size: int = number(32, "images per batch; a last partial batch is kept", at_least=2)
    accumulate: int = number(1, "batches per step: their gradients are added up as those of one batch", at_least=1)
    ema: float = number(
        0.0, "decay of averaged weights, which are validated and kept; 0 averages nothing", at_least=0, below=1
    )
    image_size: int = number(224, "side of the square input, px", at_least=32, at_most=1024)
    backbone: str = value("efficientnet_b0", "timm model name; for volumes resnet3d_10, _18, _34 or _50")
    pretrained: bool = value(True, "start from timm's ImageNet weights")
    weights: str | None = value(
        None,
        "start from this file instead, or from <backbone>.safetensors or .pt in this folder",
        is_optional=True,
    )
    stem_stride: int = number(
        1, "volumes: stride of the first convolution; 2, as in MedicalNet, costs an eighth", at_least=1, at_most=2
    )
    checkpointing: bool = value(False, "volumes: activations are computed again in the backward pass: less memory")
    head: str = choice(
        "linear",
        "linear: timm's own; mlp: 512 hidden units; cosine: of angles, for ldam",
        choices=HEADS,
        changes_prior=True,
    )
    stages: str | tuple[Mapping[str, Any], ...] = choice(
        "one",
        "which layers train when, with which share of lr; see tune_btxrd/stages.py",
        choices=tuple(RECIPES),
        is_list=True,
    )
    reload_best: bool = value(False, "a new stage starts from the best epoch so far")
    min_lr: float = number(1e-6, "learning rate at the end of the cosine", at_least=0)
    patience: int = number(7, "epochs without improvement before stopping", at_least=1)
    min_delta: float = number(0.0, "smallest gain of the monitor that improves", at_least=0)
    min_epochs: int = number(1, "patience stops no training before this epoch", at_least=1)
    monitor: str = choice("val_loss", "value that names the best epoch and stops the training", choices=tuple(MONITORS))
    objective: str = choice(
        ALL_IMAGES,
        "images that the monitor is computed on: all, or those of the center where it is worst",
        choices=OBJECTIVES,
    )
    flip: float = number(0.5, "probability of a left-right mirror", at_least=0, at_most=1)
    flip_front: float = number(0.0, "volumes: probability of a front-back mirror", at_least=0, at_most=1)
    flip_up: float = number(0.0, "volumes: probability of a head-foot mirror", at_least=0, at_most=1)
    rotation: float = number(15.0, "largest rotation, degrees; of volumes about each axis", at_least=0, at_most=180)
    scale_min: float = number(0.8, "smallest scale; the largest is 1", above=0, at_most=1)
    shift: float = number(0.05, "largest shift, share of the side", at_least=0, below=1)
    brightness: float = number(0.2, "largest relative change", at_least=0, at_most=1)
    contrast: float = number(0.2, "largest relative change", at_least=0, at_most=1)
    intensity_shift: float = number(0.0, "volumes: largest shift of a channel, standard deviations", at_least=0, at_most=5)
    gamma: float = number(0.0, "exponents of intensities lie within 1 / (1 + gamma) and 1 + gamma", at_least=0)
    noise: float = number(0.0, "volumes: Gaussian noise, standard deviations", at_least=0)
    saturation: float = number(0.0, "largest relative change; colour images only", at_least=0, at_most=1)
    hue: float = number(0.0, "largest turn of the colour circle, degrees; colour images only", at_least=0, at_most=180)
    crop_min: float = number(1.0, "random resized crop: smallest share of the area; 1 crops nothing", above=0, at_most=1)
    erasing: float = number(0.0, "probability that a rectangle of the image is erased", at_least=0, at_most=1)
    border: float = number(0.0, "images: largest share of the side that is cut off at each edge", at_least=0, at_most=0.45)
    blur: float = number(0.0, "images: largest sd of a Gaussian blur, share of the side", at_least=0, at_most=0.05)
    equalize: float = number(0.0, "images: probability that the histogram is equalised", at_least=0, at_most=1)
    invert: float = number(0.0, "images: probability that black and white change places", at_least=0, at_most=1)
    loss: str = choice(
        "weighted_ce",
        "what training minimises; for several labels a bce, focal or asymmetric",
        choices=LOSSES,
        changes_prior=True,
    )
    label_smoothing: float = number(
        0.0, "share of a label spread over all classes; not for focal and asymmetric", at_least=0, below=1
    )
    focal_gamma: float = number(
        2.0, "focal: how far easy images count less; 0 is cross-entropy", at_least=0, changes_prior=True
    )
    focal_alpha: float = number(
        0.5, "focal, several labels: weight of a yes; a no has the rest", above=0, below=1, changes_prior=True
    )
    asymmetric_gamma_neg: float = number(4.0, "asymmetric: how far an easy no counts less", at_least=0, changes_prior=True)
    asymmetric_gamma_pos: float = number(0.0, "asymmetric: how far an easy yes counts less", at_least=0, changes_prior=True)
    asymmetric_clip: float = number(
        0.05, "asymmetric: probability below which a no costs nothing", at_least=0, below=1, changes_prior=True
    )
    ldam_margin: float = number(0.5, "ldam: margin of the rarest class, in logits", at_least=0, changes_prior=True)
    ldam_scale: float = number(30.0, "ldam: factor of the logits within the loss", above=0, changes_prior=True)
    logit_tau: float = number(1.0, "logit_adjusted: factor of the log class frequencies", at_least=0, changes_prior=True)
    reweighting: str = choice("none", "class weights from epoch reweight_from on", choices=REWEIGHTING, changes_prior=True)
    reweight_from: int = number(1, "first epoch with reweighting; later than 1 is deferred", at_least=1, changes_prior=True)
    sampling: str = choice(
        "natural", "natural: each image once; balanced: classes alike, with repetition", choices=SAMPLING, changes_prior=True
    )
    drop_last: bool = value(False, "leave out a last partial batch of training")
    clip: float = number(0.0, "largest norm of all gradients together; 0 clips nothing", at_least=0)
    precision: str = choice(
        "auto", "bf16, fp16: AMP, fp16 with scaled gradients; auto: bf16 where CUDA has it", choices=PRECISIONS
    )
    tf32: bool = value(True, "CUDA may round the factors of float32 products to TF32")
    capture: bool = value(False, "CUDA runs a training step as one captured graph")
    seed: int = number(42, "decides head, order, augmentation, dropout", at_least=0, at_most=LARGEST_SEED)

    def __post_init__(self) -> None:
        for name, field in FIELDS.items():
            object.__setattr__(self, name, field.checked(getattr(self, name)))
        if self.min_lr > self.lr:
            raise ConfigError(f"`min_lr <= lr` must hold, but got min_lr={self.min_lr!r}, lr={self.lr!r}.")
        stages_of(self.stages, self.epochs)  # says what is wrong with them

    @property
    def monitored(self) -> Monitor:
        """What names the best epoch and stops the training."""
        return monitor_of(self.monitor, self.objective)

    @property
    def stage_list(self) -> list[Stage]:
        """The stages that `stages` stands for; one where everything trains at once."""
        return stages_of(self.stages, self.epochs)

    @property
    def is_staged(self) -> bool:
        """Whether anything is ever frozen or trained at a rate of its own; else the optimizer has a single group."""
        apart = self.backbone_share != 1
        return apart or any(stage.trains != "all" or stage.lr_head != stage.lr_backbone for stage in self.stage_list)

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


FIELDS: Final = fields_of(TrainConfig)


def check_name(name: str) -> None:
    """Raises ConfigError, with the nearest known name, where no hyperparameter is called so."""
    if name not in FIELDS:
        raise ConfigError(f"Every name must be a hyperparameter, but got {shown(name)}: {nearest(name, FIELDS)}")


def checked(name: str, value: Any) -> Any:
    """A value of a hyperparameter as the field's type, within its bounds. Raises: ConfigError, also for an unknown name."""
    check_name(name)
    return FIELDS[name].checked(value)


def nearest(name: object, known: Iterable[str]) -> str:
    """The cure for a name that nobody knows: the nearest one, or all."""
    names = list(known)
    near = difflib.get_close_matches(str(name)[:100], names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(names)}."


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut after 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
