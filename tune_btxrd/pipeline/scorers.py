"""Scorers: models as `labels score` uses them: a checkpoint, or a pretrained backbone before there is one."""
# ruff: noqa: N803
# (shape suffixes: N = images, L = labels, C = classes)

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.features import FeatureReader, pretrained_backbone, weights_sha256
from tune_btxrd.inference.open_model import open_model
from tune_btxrd.labels.records import Label


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """The pretrained network whose features stand in before there is a model.

    Attributes:
        weights: a file, or a folder with one file per backbone; None: timm's hub.
    """

    name: str = TrainConfig().backbone
    weights: Path | None = None
    image_size: int = TrainConfig().image_size


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A model that is ready to score.

    Attributes:
        sha256: of its file; the same model goes on where it stopped.
        event: last event of the labels that it was trained on; None: not known, or on none.
        columns: for each label of the store, the model's class; None for one that it does not know.
        is_backbone: its classifier means nothing, so only its features are kept.
    """

    name: str
    sha256: str
    event: int | None
    reader: FeatureReader
    columns: tuple[int | None, ...]
    is_backbone: bool = False

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """(N, L), calibrated where the model carries a calibration; NaN for labels that it does not know."""
        info = self.reader.predictor.info
        found = info.decisions.calibration.probabilities(logits_NC) if info.decisions else info.task.probabilities(logits_NC)
        answers = np.full((len(logits_NC), len(self.columns)), np.nan)
        for place, column in enumerate(self.columns):
            if column is not None and not self.is_backbone:
                answers[:, place] = found[:, column]
        return answers


def checkpoint_scorer(
    checkpoint: Path, labels: Sequence[Label], *, task: str, name: str | None, event: int | None, device: str
) -> Scorer:
    """A trained model.

    Args:
        task: of the store; name: how people call the model; None: by its path.
        event: last event of the labels that it was trained on.

    Raises:
        ResultError: it cannot be used, is of another task, or knows no label of the store.
    """
    predictor = open_model(checkpoint, device=device)
    info, wanted = predictor.info, [label.name for label in labels]
    if info.task.name != task:
        raise ResultError(f"{checkpoint} must be of task {task}, as the store, but is of {info.task.name}: give another.")
    if not set(info.class_names) & set(wanted):
        raise ResultError(
            f"The model must know a label of the store ({', '.join(wanted)}), but {checkpoint} knows "
            f"{', '.join(info.class_names)}: give another."
        )
    return Scorer(
        name=name or str(checkpoint),
        sha256=info.checkpoint_sha256 or file_sha256(checkpoint),
        event=event,
        reader=FeatureReader(predictor),
        columns=tuple(info.class_names.index(label) if label in info.class_names else None for label in wanted),
    )


def backbone_scorer(backbone: Backbone, labels: Sequence[Label], *, device: str) -> Scorer:
    """A pretrained backbone. Raises: ConfigError where its weights are not at hand."""
    predictor = pretrained_backbone(backbone.name, backbone.weights, image_size=backbone.image_size, device=device)
    return Scorer(
        name=f"{backbone.name} at {backbone.image_size} px, pretrained",
        sha256=weights_sha256(predictor),
        event=None,
        reader=FeatureReader(predictor),
        columns=(None,) * len(labels),
        is_backbone=True,
    )
