"""ModelInfo: what a trained model needs beside its weights, as it travels with every export."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_btxrd.scoring.decisions import Decisions

INFO_FILE = "tune_btxrd.json"
INFO_KEY = "tune_btxrd"  # in config.json and in ONNX's metadata


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model needs beside its weights.

    Attributes:
        backbone: timm model name; head: one of config.HEADS, plain timm has "linear" alone.
        image_size: side of the square input, px.
        mean, std: three numbers each, for pixels in [0, 1].
        class_names: index -> name.
        checkpoint_sha256: of the `.pt` that the model comes from.
        decisions: fitted on validation; None for a checkpoint without them.
    """

    backbone: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    checkpoint_sha256: str
    decisions: Decisions | None = None
    head: str = "linear"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the preprocessing in words."""
        return {
            "backbone": self.backbone,
            "head": self.head,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            "checkpoint_sha256": self.checkpoint_sha256,
            "decisions": self.decisions.to_dict() if self.decisions else None,
            "preprocessing": self.preprocessing,
        }

    @property
    def preprocessing(self) -> str:
        """From a file to the model's input, in words."""
        return (
            f"Turn upright by EXIF; scale the longer side to {self.image_size} px (bicubic, aspect kept); centre on a black "
            f"{self.image_size} x {self.image_size} square; grey becomes three equal channels (RGB order); divide by 255; "
            f"subtract mean {list(self.mean)}, divide by std {list(self.std)}; float32 (batch, 3, height, width)."
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelInfo":
        """The inverse of `to_dict`."""
        decisions = values.get("decisions")
        return cls(
            backbone=str(values["backbone"]),
            head=str(values.get("head", "linear")),
            image_size=int(values["image_size"]),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            class_names=tuple(map(str, values["class_names"])),
            checkpoint_sha256=str(values["checkpoint_sha256"]),
            decisions=Decisions.from_dict(decisions) if decisions else None,
        )
