"""The folds of a result as one model: their checkpoints and calibrations in one folder, with a member list.

checkpoints/<name>/ensemble/
    members.json                   which folds, and what each was worth on the images that it alone validates on
    fold_<i>_of_<k>/best.pt        a link to the fold's checkpoint, with its calibration beside it
    tune_btxrd.json                what was fitted for all together
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.inference.model_info import INFO_FILE, ModelInfo, read_object
from tune_btxrd.inference.open_average import ensemble_sha256, is_ensemble, open_any
from tune_btxrd.inference.open_model import Predictor
from tune_btxrd.results.checkpoints import RetrainJob, best_row
from tune_btxrd.results.member_list import FOLD_ENSEMBLE, FOLDERS, Member, MemberList, link, remove_others
from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.scoring.score_tables import Judged


def write_fold_ensemble(jobs: Sequence[RetrainJob], folds: Sequence[Judged]) -> Path:
    """Writes the folder and returns it.

    No image is left on which all folds together could be judged: each was trained on by all but one. So operating points and
    calibration of the ensemble are fitted on calibrated probabilities out of fold.

    Args:
        jobs: the finished trainings; folds: each on its own validation part, in the same order.

    Raises:
        ResultError: the folder cannot be written.
    """
    folder, members = jobs[0].root / FOLDERS[FOLD_ENSEMBLE], list[Member]()
    infos = [ModelInfo.from_dict(read_object(job.folder / INFO_FILE), source=job.folder / INFO_FILE) for job in jobs]
    for job, info in zip(jobs, infos, strict=True):
        file = f"{job.stem}/best.pt"
        link(job.best, folder / file)
        write_whole((folder / file).with_name(INFO_FILE), json.dumps(info.to_dict(), indent=2) + "\n")
        value = float(best_row(job.log())[job.config.monitored.column])
        members.append(Member(name=job.split, file=file, checkpoint_sha256=info.checkpoint_sha256, value=value))
    remove_others(folder, members)
    digest = ensemble_sha256([info.checkpoint_sha256 for info in infos])
    together = replace(infos[0], checkpoint_sha256=digest, decisions=_out_of_fold(folds))
    write_whole(folder / INFO_FILE, json.dumps(together.to_dict(), indent=2) + "\n")
    listed = MemberList(
        kind=FOLD_ENSEMBLE,
        split=f"{len(jobs)} folds",
        monitor=jobs[0].config.monitored.label,
        members=tuple(members),
        value=None,
        scores={},
    )
    listed.save(folder)
    return folder


def open_for_test(
    checkpoints: Path, split: Split, manifest: Manifest, *, results: Path, device: str
) -> tuple[Predictor | None, list[str]]:
    """The ensemble of a search's folds, where there is one and none of its members saw an image of this test part; else
    None, and a note where there is something to say.

    Raises:
        ResultError: an ensemble that is damaged or has lost what was fitted for it.
    """
    folder, seen = checkpoints / FOLDERS[FOLD_ENSEMBLE], set[str]()
    if not is_ensemble(folder):
        return None, []
    for member in MemberList.load(folder).members:
        parts = load_split(results / "splits" / f"{Path(member.file).parent.name}.csv", manifest).parts
        seen |= {*parts["train"], *parts["val"]}
    if shared := len(seen & set(split.parts["test"])):
        return None, [f"The ensemble of folds is not scored here: its members saw {shared} images of this test part."]
    predictor = open_any(folder, device=device)
    if predictor.info.decisions is None:
        raise ResultError(f"An ensemble of folds must be calibrated, but {folder} is not: retrain the folds again.")
    return predictor, []


def _out_of_fold(folds: Sequence[Judged]) -> Decisions:
    """Fitted on what each fold says, calibrated, of the images that it did not train on."""
    first = folds[0].decisions
    calibrated = [first.task.logits(fold.decisions.calibration.probabilities(fold.logits)) for fold in folds]
    targets = np.concatenate([fold.targets for fold in folds])
    return fit_decisions(np.concatenate(calibrated), targets, positive_class=first.positive_class, task=first.task)
