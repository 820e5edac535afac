"""An ensemble as one model: the folder with its member list answers like any checkpoint. A soup is a checkpoint already."""
# (shape suffixes: K = members, N = images, C = classes)

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tune_btxrd.errors import ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.model_info import INFO_FILE, ModelInfo, check_exported, read_object
from tune_btxrd.inference.open_model import Predictor, open_model
from tune_btxrd.results.member_list import FILE, FOLD_ENSEMBLE, RULES, SOUP, MemberList

ALIKE = ("class_names", "image_size", "task", "channels", "spacing", "window")


def is_ensemble(path: Path) -> bool:
    """Whether a path is the folder of an ensemble, or its export. Raises: ResultError where the list is damaged."""
    return (path / FILE).is_file() and MemberList.load(path).kind != SOUP


def open_any(path: Path, *, device: str = "cpu") -> Predictor:
    """A model in any form: what `open_model` takes, or the folder of an ensemble. Raises: as `open_model`."""
    return open_ensemble(path, device=device) if is_ensemble(path) else open_model(path, device=device)


def open_ensemble(folder: Path, *, device: str = "cpu") -> Predictor:
    """The members of an ensemble as one model; what was fitted on validation for all of them together is in its info.

    Its logits are those of the mean of the members' probabilities: of seeds as they are, since one calibration is fitted for
    all; of folds calibrated ones, since each has a validation part of its own.

    Raises:
        ResultError: a member is missing, damaged, not the one of the list, not calibrated, or of other classes.
    """
    listed = MemberList.load(folder)
    models = [_member(folder, item.file, item.checkpoint_sha256, device=device) for item in listed.members]
    info = models[0].info
    if any(getattr(model.info, name) != getattr(info, name) for model in models for name in ALIKE):
        raise ResultError(f"Members of an ensemble must have the same classes and image size, but in {folder} they differ.")
    is_calibrated = listed.kind == FOLD_ENSEMBLE
    if is_calibrated and any(model.info.decisions is None for model in models):
        raise ResultError(
            f"Every fold of an ensemble must be calibrated, but one in {folder} is not: retrain the folds again."
        )
    digest = ensemble_sha256([model.info.checkpoint_sha256 for model in models])
    info = replace(info, checkpoint_sha256=digest, decisions=None)

    def forward(images: np.ndarray) -> np.ndarray:
        answers_KNC = np.stack([_probabilities(model, images, calibrated=is_calibrated) for model in models])  # noqa: N806  # shape suffix
        return np.asarray(info.task.logits(answers_KNC.mean(axis=0)), dtype=np.float32)

    note = f"An ensemble of {len(models)}: {RULES[listed.kind]}."
    return Predictor(info=_with_decisions(info, folder), forward=forward, notes=(note,))


def ensemble_sha256(members: Sequence[str]) -> str:
    """What names an ensemble: the digest of its members' digests, in order."""
    return hashlib.sha256("".join(members).encode()).hexdigest()


def _member(folder: Path, file: str, sha256: str, *, device: str) -> Predictor:
    path = folder / file
    check_exported(folder / Path(file).parts[0])
    if path.suffix == ".pt" and path.is_file() and file_sha256(path) != sha256:
        raise ResultError(f"A member must be the checkpoint of the list, but {path} is another one: retrain again.")
    model = open_model(path, device=device)
    if model.info.checkpoint_sha256 != sha256:
        raise ResultError(f"A member must be the checkpoint of the list, but {path} is of another one: export again.")
    return model


def _probabilities(model: Predictor, images: np.ndarray, *, calibrated: bool) -> np.ndarray:
    logits = model.forward(images)
    if calibrated and model.info.decisions is not None:
        return model.info.decisions.calibration.probabilities(logits)
    return model.info.task.probabilities(logits)


def _with_decisions(info: ModelInfo, folder: Path) -> ModelInfo:
    """What was fitted for exactly this ensemble, beside the list or in the export below."""
    for path in (folder / INFO_FILE, folder / "export" / INFO_FILE):
        if path.is_file():
            found = ModelInfo.from_dict(read_object(path), source=path)
            if found.checkpoint_sha256 == info.checkpoint_sha256:
                return replace(info, decisions=found.decisions)
    return info
