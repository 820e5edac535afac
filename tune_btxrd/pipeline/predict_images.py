"""Verb `predict` as a function: class probabilities for image files and folders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune_btxrd.console import progress, tell
from tune_btxrd.errors import ResultError
from tune_btxrd.files import require_writable, require_writable_file, write_whole
from tune_btxrd.inference.model_info import MANIFEST_FILE
from tune_btxrd.results.checkpoints import fold_checkpoints

if TYPE_CHECKING:
    from tune_btxrd.inference.predict import Predictions


def predict_images(
    checkpoint: Path | str,
    images: Sequence[Path | str],
    *,
    device: str = "auto",
    overlays: Path | None = None,
    rank_uncertain: Path | None = None,
    told: Callable[["Predictions"], None] | None = None,
) -> "Predictions":
    """Class probabilities for files and folders of images; files that cannot be read are in `broken` of the answer.

    Args:
        checkpoint: .pt file, ONNX file, timm folder, or the folder of an export, of an ensemble, or of folds.
        overlays: folder for pictures of where the model looks; rank_uncertain: CSV file of the images to label first.
        told: called with the answer before the overlays are drawn, which take longest and may fail.

    Raises:
        ResultError: the checkpoint cannot be used, or is ONNX and overlays are wanted; no image was read then.
        DataError: no image there.
    """
    from tune_btxrd.inference.open_average import is_ensemble, open_any
    from tune_btxrd.inference.predict import predict_files, samples_of
    from tune_btxrd.inference.predict import rank_uncertain as ranked

    if overlays is not None:
        require_writable(overlays, "choose another --overlays")
    if rank_uncertain is not None:
        require_writable_file(rank_uncertain, "choose another --rank-uncertain")
    paths = [Path(image) for image in images]
    if folds := fold_checkpoints(Path(checkpoint)):
        if overlays is not None:
            raise ResultError(
                f"Overlays show where one model looks, but {checkpoint} holds folds: give one, e.g. {folds[0]}."
            )
        return _by_folds(Path(checkpoint), paths, device=device, rank_uncertain=rank_uncertain, told=told)
    if overlays is not None and is_ensemble(Path(checkpoint)):
        raise ResultError(
            f"Overlays show where one model looks, but {checkpoint} is an ensemble: give one member, e.g. "
            f"{next(iter(sorted(Path(checkpoint).glob('*/best.pt'))), 'a seed')}."
        )
    predictor = open_any(exported_model(Path(checkpoint)), device=device)
    if overlays is not None:
        from tune_btxrd.inference.grad_cam import network

        network(predictor)
    files, parts = samples_of(predictor.info, paths)
    with progress("predicted") as advance:
        found = predict_files(predictor, files, parts=parts, progress=advance)
    if rank_uncertain is not None:
        write_whole(rank_uncertain, ranked(found).to_csv(index=False))
    if told is not None:
        told(found)
    if overlays is not None:
        from tune_btxrd.inference.grad_cam import explain_files

        with progress("overlaid") as advance:
            written = explain_files(predictor, found.files, overlays, parts=parts, progress=advance)
        tell(f"{len(written)} overlay(s) in {overlays}")
    return found


def _by_folds(
    folder: Path,
    paths: Sequence[Path],
    *,
    device: str,
    rank_uncertain: Path | None,
    told: Callable[["Predictions"], None] | None,
) -> "Predictions":
    from tune_btxrd.inference.ensemble import predict_with_folds
    from tune_btxrd.inference.predict import rank_uncertain as ranked

    with progress("predicted") as advance:
        found = predict_with_folds(folder, paths, device=device, progress=advance)
    if rank_uncertain is not None:
        write_whole(rank_uncertain, ranked(found).to_csv(index=False))
    if told is not None:
        told(found)
    return found


def exported_model(path: Path) -> Path:
    """The model in the folder that `export` names; any other path is a model already."""
    if not (path / MANIFEST_FILE).is_file():
        return path
    found = [*sorted(path.glob("best_*.pt")), *(path / name for name in ("timm", "model.onnx") if (path / name).exists())]
    return found[0] if found else path
