"""A folder of folds as one model: the mean of the folds' calibrated probabilities, with the spread between them."""
# (shape suffixes: K = folds, N = images, C = classes)

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.errors import ResultError
from tune_btxrd.inference.open_model import Predictor, open_checkpoint
from tune_btxrd.inference.predict import Predictions, predict_files, samples_of
from tune_btxrd.results.checkpoints import fold_checkpoints
from tune_btxrd.search.columns import class_keys

RULE = "largest mean of the folds' calibrated probabilities"
LABEL_RULE = "mean of the folds' calibrated probabilities at least 0.5"


@dataclass(frozen=True, kw_only=True)
class FoldPredictions(Predictions):
    """What folds say together; `probabilities` are the means.

    Attributes:
        members: (K, N, C) calibrated probabilities of each fold.
    """

    members: np.ndarray

    @property
    def rule(self) -> str:
        """What decides."""
        return RULE if self.info.task.exclusive else LABEL_RULE

    @property
    def table(self) -> pd.DataFrame:
        """As of one model, and per class the standard deviation between folds, lowest and highest."""
        table = super().table.assign(rule=self.rule, folds=len(self.members))
        names = self.info.class_names
        for index, name in enumerate(names if self.info.task.exclusive else class_keys(names)):
            own = self.members[:, :, index]
            table[f"spread_{name}"] = own.std(axis=0, ddof=1)
            table[f"lowest_{name}"], table[f"highest_{name}"] = own.min(axis=0), own.max(axis=0)
        return table

    def to_json(self) -> str:
        """As of one model."""
        return json.dumps(json.loads(super().to_json()) | {"rule": self.rule}, indent=1, ensure_ascii=False)


def predict_with_folds(
    folder: Path, paths: Sequence[Path], *, device: str = "auto", progress: Callable[[int, int], None] | None = None
) -> FoldPredictions:
    """Predicts files and folders with every fold of `checkpoints/<name>`; each image is decoded once.

    Raises:
        ResultError: folds of several numbers of folds, one that is missing, not calibrated or of other classes.
    """
    models = [open_checkpoint(path, device=device) for path in fold_checkpoints(folder)]
    _check(models, folder)
    files, parts = samples_of(models[0].info, paths)
    answers: list[np.ndarray] = []

    def forward(images: np.ndarray) -> np.ndarray:
        answers.append(np.stack([_calibrated(model, images) for model in models]))
        return models[0].info.task.logits(answers[-1].mean(axis=0)).astype(np.float32)

    digests = "".join(model.info.checkpoint_sha256 for model in models)
    info = replace(models[0].info, decisions=None, checkpoint_sha256=hashlib.sha256(digests.encode()).hexdigest())
    notes = tuple(dict.fromkeys(note for model in models for note in model.notes))
    found = predict_files(Predictor(info=info, forward=forward, notes=notes), files, parts=parts, progress=progress)
    nothing = np.zeros((len(models), 0, len(info.class_names)))
    members = np.concatenate([nothing, *answers], axis=1)
    values = {name: getattr(found, name) for name in ("info", "files", "logits", "broken", "notes")}
    return FoldPredictions(**{**values, "notes": (*found.notes, *_spread(members, found))}, members=members)


def _spread(members: np.ndarray, found: Predictions) -> Iterator[str]:
    """Says how far folds differ, and where most."""
    if not len(found.files):
        return
    spread = members.std(axis=0, ddof=1)
    row, index = np.argwhere(spread == spread.max())[0]
    yield (
        f"Standard deviation between {len(members)} folds: {spread.mean():.3f} on average, at most {spread.max():.3f} "
        f"({found.files[row].name}, {found.info.class_names[index]}); --format csv has it for each image and class."
    )


def _calibrated(model: Predictor, images: np.ndarray) -> np.ndarray:
    assert model.info.decisions is not None
    return model.info.decisions.calibration.probabilities(model.forward(images))


def _check(models: Sequence[Predictor], folder: Path) -> None:
    first = models[0].info
    for number, model in enumerate(models, start=1):
        info = model.info
        alike = ("class_names", "image_size", "task", "channels", "spacing", "window")
        if any(getattr(info, name) != getattr(first, name) for name in alike):
            raise ResultError(f"Folds of an ensemble must have the same classes and image size, but fold {number} differs.")
        if info.decisions is None:
            cure = f"`retrain {folder.resolve().name} --folds {len(models)}` fits it anew"
            raise ResultError(f"Every fold of an ensemble must be calibrated, but fold {number} in {folder} is not: {cure}.")
