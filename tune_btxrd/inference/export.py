"""export NAME: the winning checkpoint of each split in portable formats, each loaded back and compared on real images.

checkpoints/<name>/<split>/export/      replaced as a whole
    best_<split>.pt                     the checkpoint itself, as a link that takes no space; where the disk has no links
                                        it is missing, and manifest.json says where it lies
    tune_btxrd.json                     preprocessing, classes, calibration and operating points
    timm/config.json model.safetensors  timm.create_model("local-dir:...", pretrained=True); not for `head: mlp` and
                                        `head: cosine`, which plain timm cannot build, nor for volumes, whose .pt
                                        plain MONAI loads: there ONNX alone is portable
    model.onnx                          dynamic batch; the content of tune_btxrd.json in its metadata
    MODEL_CARD.md                       `evaluate` adds its scores later
    manifest.json                       SHA-256 of every file, versions, the differences found
checkpoints/<name>/<split>/soup/export/ the same of the soup, with members.json
checkpoints/<name>/<split>/ensemble/export/ (of folds: checkpoints/<name>/ensemble/export/)
    members.json seed_42/timm seed_42/model.onnx ...  every member in every format; one tune_btxrd.json, card and manifest
"""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import timm
import torch
from torch import nn

from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.inference.checkpoint_formats import CONFIG_FILE, WEIGHTS_FILE, blank_input
from tune_btxrd.inference.model_card import write_card
from tune_btxrd.inference.model_info import INFO_FILE, INFO_KEY, MANIFEST_FILE, WEIGHTS_KEY, read_object
from tune_btxrd.inference.open_average import is_ensemble, open_any
from tune_btxrd.inference.open_model import Predictor, graph_sha256
from tune_btxrd.results.checkpoints import EXPORT, WINNER, FinishedSplit, finished_splits
from tune_btxrd.results.member_list import FILE, FOLD_ENSEMBLE, FOLDERS, Member, MemberList
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.training.source import Source
from tune_btxrd.version import __version__

COMPARED = 16  # validation images on which the formats are compared
TOLERANCE = 1e-4  # largest difference of a logit, float32; relative to the largest logit where that is above 1
OPSET = 17
PACKAGES = ("torch", "timm", "onnx", "onnxruntime", "safetensors", "numpy")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One split's export.

    Attributes:
        folder: where it lies.
        checkpoint_sha256: of the checkpoint that was exported.
        files: path within the folder -> SHA-256.
        images: how many real images the formats were compared on.
        differences: format ("timm", "onnx") -> largest absolute difference of a logit from the checkpoint's own.
        probability_differences: the same of a probability.
    """

    split: str
    folder: Path
    checkpoint_sha256: str
    files: dict[str, str]
    images: int
    differences: dict[str, float]
    probability_differences: dict[str, float]

    @property
    def stem(self) -> str:
        """What its folder is called beside others: "stratified"; of an average "stratified_soup"."""
        own = self.folder.parent
        return f"{own.parent.name}_{own.name}" if (self.folder / FILE).is_file() else own.name


def export_search(
    checkpoints: Path,
    *,
    results: Path,
    source: Source,
    images: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Exported]:
    """Exports every `best_<split>.pt` of a search, and the ensembles and soups beside it.

    Calibration and operating points are fitted on its validation part; of an ensemble of folds out of fold.

    Args:
        checkpoints: the folder `checkpoints/<name>`; results: the folder `ray_results/<name>`.
        source: where pixels and parts lie.
        images: files to compare the formats on; default: images of the validation part.
        progress: called with (splits done, splits).

    Raises:
        ResultError: no checkpoint, a damaged one, or a format that gives other numbers.
        DataError: the image cache is gone.
    """
    splits = finished_splits(checkpoints)
    exported, jobs = list[Exported](), [(split, name) for split in splits for name in split.exports]
    for done, (split, name) in enumerate(jobs, start=1):
        folder = split.exports[name]
        exported.append(export_checkpoint(split, folder, name=name, source=source, results=results, images=images))
        if progress is not None:
            progress(done, len(jobs))
    if is_ensemble(folds := checkpoints / FOLDERS[FOLD_ENSEMBLE]):
        exported.append(_export_folds(folds, splits, source=source, results=results, images=images))
    return exported


def export_checkpoint(
    split: FinishedSplit,
    folder: Path,
    *,
    name: str = WINNER,
    source: Source,
    results: Path,
    images: Sequence[Path] = (),
) -> Exported:
    """One split's winner, or its soup or ensemble by name, into `folder`. Raises: as `export_search`."""
    model = split.models[name]
    original = with_decisions(open_any(model), source=source, split=split.stem)
    samples = _samples(original, source=source, split=split.stem, images=images)
    job = _ExportJob(original=original, model=model, split=split.name, split_folder=split.folder, results=results)
    return _export(job, folder, samples)


def _export_folds(
    folder: Path, splits: Sequence[FinishedSplit], *, source: Source, results: Path, images: Sequence[Path]
) -> Exported:
    """The ensemble of folds: what was fitted for it lies beside it."""
    first = next(split for split in splits if split.is_fold)
    original = open_any(folder)
    samples = _samples(original, source=source, split=first.stem, images=images)
    job = _ExportJob(original=original, model=folder, split=first.name, split_folder=first.folder, results=results)
    return _export(job, folder / EXPORT, samples)


@dataclass(frozen=True, kw_only=True)
class _ExportJob:
    """A model that is to be exported: opened, with its decisions; the file or folder that it is, and of which split."""

    original: Predictor
    model: Path
    split: str
    split_folder: Path
    results: Path


def _export(job: _ExportJob, folder: Path, samples: np.ndarray) -> Exported:
    """Written aside and moved there only when every format has been checked."""
    original, wanted = job.original, job.original.logits(samples)
    aside, before = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "before"))
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        formats = _write_members(job, aside) if job.model.is_dir() else _write_single(job, aside)
        logits, probabilities = _compare(wanted, formats, samples)
        exported = Exported(
            split=job.split,
            folder=folder,
            checkpoint_sha256=original.info.checkpoint_sha256,
            files=_hashes(aside),
            images=len(samples),
            differences=logits,
            probability_differences=probabilities,
        )
        write_whole(aside / MANIFEST_FILE, json.dumps(_manifest(exported, job.model), indent=2) + "\n")
        write_card(aside, results=job.results, split_folder=job.split_folder)
        if folder.exists():
            folder.replace(before)
        aside.replace(folder)
    except OSError as error:
        reason = error.strerror or error
        raise ResultError(f"{folder.parent} must be writable, but: {reason}. Free space or change permissions.") from error
    finally:
        if before.exists() and not folder.exists():  # stopped between the two
            before.replace(folder)
        for left in (aside, before):
            shutil.rmtree(left, ignore_errors=True)
    return exported


def with_decisions(predictor: Predictor, *, source: Source, split: str) -> Predictor:
    """The predictor with calibration and operating points fitted on the validation part of the split."""
    data = source.at(predictor.info.image_size).training_data(split)
    logits = predictor.logits(data.images, data.val_rows)
    targets = data.targets[data.val_rows]
    decisions = fit_decisions(logits, targets, positive_class=source.positive_class, task=data.task)
    return replace(predictor, info=replace(predictor.info, decisions=decisions))


def write_timm_folder(predictor: Predictor, folder: Path) -> None:
    """config.json and model.safetensors; the folder is all that is needed."""
    model, info = predictor.model, predictor.info
    assert model is not None
    size = tuple(blank_input(info).shape[1:])
    preprocessing = {"mean": info.mean, "std": info.std, "input_size": size, "test_input_size": size}
    # timm's nearest name for our letterbox is "border"; the exact rule stands under our own key
    rule = {"interpolation": "bicubic", "crop_pct": 1.0, "test_crop_pct": 1.0, "crop_mode": "border"}
    config: dict[str, object] = model.pretrained_cfg  # type: ignore[assignment]  # timm's models carry it as plain data
    own = {"num_classes": len(info.class_names), "tag": "", "license": "other"}  # no longer timm's own weights
    model.pretrained_cfg = {**config, **preprocessing, **rule, **own}  # type: ignore[assignment]  # as above
    more = {"label_names": list(info.class_names), INFO_KEY: info.to_dict()}
    timm.models.save_for_hf(_contiguous(model), str(folder), model_config=more, safe_serialization=True)
    written = read_object(folder / CONFIG_FILE)
    written[INFO_KEY][WEIGHTS_KEY] = file_sha256(folder / WEIGHTS_FILE)  # the folder may be copied alone
    write_whole(folder / CONFIG_FILE, json.dumps(written, indent=2) + "\n")


def write_onnx(predictor: Predictor, path: Path) -> None:
    """One file: input `pixels` float32 as `blank_input`, any batch, output `logits` (batch, C); the info in its metadata.

    Raises:
        ResultError: the backbone cannot be expressed in ONNX.
    """
    model, info = predictor.model, predictor.info
    assert model is not None
    sample = blank_input(info, 2).contiguous()
    try:
        with warnings.catch_warnings():  # the exporter that traces: 1.3 s where torch.export's takes 27 s for the same graph
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="Converting a tensor to a Python")  # shapes that timm checks
            torch.onnx.export(
                model.cpu(),
                (sample,),
                str(path),
                input_names=["pixels"],
                output_names=["logits"],
                dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = first_line(error)
        raise ResultError(f"A backbone must be expressible in ONNX, but {info.backbone} is not: {reason}.") from error
    graph = onnx.load(str(path))
    own = info.to_dict() | {WEIGHTS_KEY: graph_sha256(graph)}
    described = {INFO_KEY: json.dumps(own), "preprocessing": info.preprocessing, "use": "Not for clinical use."}
    onnx.helper.set_model_props(graph, described)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def _write_single(job: _ExportJob, folder: Path) -> dict[str, Path]:
    """A checkpoint in every format; format -> where it lies. Of a soup with its member list."""
    _write_formats(job.original, job.model, folder)
    if (listed := job.model.with_name(FILE)).is_file():
        write_whole(folder / FILE, listed.read_bytes())
    forms = {"timm": folder / "timm", "onnx": folder / "model.onnx"}
    return {name: path for name, path in forms.items() if path.exists()}


def _write_members(job: _ExportJob, folder: Path) -> dict[str, Path]:
    """Every member of an ensemble in every format, in a folder of its own; one list, one description, one card for all."""
    listed, members = MemberList.load(job.model), list[Member]()
    write_whole(folder / INFO_FILE, json.dumps(job.original.info.to_dict(), indent=2) + "\n")
    for member in listed.members:
        own = folder / Path(member.file).parent
        own.mkdir(parents=True)
        _write_formats(open_any(job.model / member.file), job.model / member.file, own)
        form = own / "timm" if (own / "timm").is_dir() else own / "model.onnx"
        members.append(replace(member, file=form.relative_to(folder).as_posix()))
    replace(listed, members=tuple(members)).save(folder)
    return {"members": folder}


def _write_formats(original: Predictor, file: Path, folder: Path) -> None:
    link_or_refer(file, folder)
    write_whole(folder / INFO_FILE, json.dumps(original.info.to_dict(), indent=2) + "\n")
    if original.info.head == "linear" and not original.info.channels:  # timm has no backbone of volumes
        write_timm_folder(original, folder / "timm")
    write_onnx(original, folder / "model.onnx")


def link_or_refer(file: Path, folder: Path) -> None:
    """A hard link to the checkpoint: no second copy on the disk, and still a file for whoever copies the folder."""
    with contextlib.suppress(OSError):  # exFAT and some network disks have none; the manifest refers to the file then
        os.link(file, folder / file.name)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _contiguous(model: nn.Module) -> nn.Module:
    """In the plain memory layout, which safetensors asks for."""
    return model.to(memory_format=torch.contiguous_format)


def _samples(original: Predictor, *, source: Source, split: str, images: Sequence[Path]) -> np.ndarray:
    """Decoded images to compare on: the given files, or some of the validation part, evenly spread."""
    if images:
        return stack_samples([original.decode(path) for path in images])
    data = source.at(original.info.image_size).training_data(split)
    chosen = np.linspace(0, len(data.val_rows) - 1, min(COMPARED, len(data.val_rows))).astype(int)
    return np.asarray(data.images[data.val_rows[chosen]])


def _compare(
    wanted: np.ndarray, formats: Mapping[str, Path], samples: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Loads each format back; its largest difference from the (B, C) logits, and of probabilities.

    Raises:
        ResultError: a logit differs by more than the tolerance.
    """
    allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    logits, probabilities = {}, {}
    for name, path in formats.items():
        model = open_any(path)
        found, chances = model.logits(samples), model.info.task.probabilities
        logits[name] = float(np.abs(found - wanted).max())
        probabilities[name] = float(np.abs(chances(found) - chances(wanted)).max())
        if not logits[name] <= allowed:
            raise ResultError(
                f"Exports must give the checkpoint's logits, but {name} is off by {logits[name]:.2g}: not exported."
            )
    return logits, probabilities


def _manifest(exported: Exported, checkpoint: Path) -> dict[str, object]:
    values = asdict(exported) | {"folder": exported.folder.name}
    return values | {
        "checkpoint": os.path.relpath(checkpoint, exported.folder),
        "tolerance": TOLERANCE,
        "versions": {name: version(name) for name in PACKAGES} | {"tune_btxrd": __version__},
    }
