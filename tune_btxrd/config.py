"""TrainConfig: every hyperparameter of one training run, with its only default, its check and its one-line meaning."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_btxrd.errors import ConfigError


def hyperparameter(default: Any, rule: str, check: Callable[[Any], bool], meaning: str) -> Any:
    """A dataclass field that carries its rule (as the user reads it), its check and its meaning."""
    return dataclasses.field(default=default, metadata={"rule": rule, "check": check, "meaning": meaning})


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
        None, "weights is a file", lambda v: v is None or bool(v), "start from this file instead"
    )
    min_lr: float = hyperparameter(1e-6, "min_lr >= 0", lambda v: v >= 0, "learning rate at the end of the cosine")
    patience: int = hyperparameter(7, "patience >= 1", lambda v: v >= 1, "epochs without improvement before stopping")
    min_delta: float = hyperparameter(0.0, "min_delta >= 0", lambda v: v >= 0, "smallest drop of val_loss that improves")
    flip: float = hyperparameter(0.5, "0 <= flip <= 1", lambda v: 0 <= v <= 1, "probability of a left-right mirror")
    rotation: float = hyperparameter(15.0, "0 <= rotation <= 180", lambda v: 0 <= v <= 180, "largest rotation, degrees")
    scale_min: float = hyperparameter(0.8, "0 < scale_min <= 1", lambda v: 0 < v <= 1, "smallest scale; the largest is 1")
    shift: float = hyperparameter(0.05, "0 <= shift < 1", lambda v: 0 <= v < 1, "largest shift, share of the side")
    brightness: float = hyperparameter(0.2, "0 <= brightness <= 1", lambda v: 0 <= v <= 1, "largest relative change")
    contrast: float = hyperparameter(0.2, "0 <= contrast <= 1", lambda v: 0 <= v <= 1, "largest relative change")
    precision: str = hyperparameter(
        "auto",
        "precision is one of auto, fp32, bf16",
        lambda v: v in ("auto", "fp32", "bf16"),
        "auto: bf16 where CUDA has it",
    )
    seed: int = hyperparameter(42, "seed >= 0", lambda v: v >= 0, "decides head, order, augmentation, dropout")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _of_type(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)
            if not field.metadata["check"](value):
                raise ConfigError(f"`{field.metadata['rule']}` must hold, but got {field.name}={value!r}.")
        if self.min_lr > self.lr:
            raise ConfigError(f"`min_lr <= lr` must hold, but got min_lr={self.min_lr!r}, lr={self.lr!r}.")

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
        raise ConfigError(f"Every name must be a hyperparameter, but got {name!r}: {cure}")


def _of_type(name: str, value: Any, kind: Any) -> Any:
    """The value as its field's type: whole floats become ints, ints become floats; text never becomes a number."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in (int, float) and isinstance(value, str):
        raise ConfigError(f"{name} must be a number, but got the text {value!r}: YAML reads 1e-5 as text, write 1.0e-5.")
    allowed = (str, type(None)) if name == "weights" else (kind,)
    if not isinstance(value, allowed) or (kind in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{name} must be of type {getattr(kind, '__name__', kind)}, but got {value!r}.")
    return value
