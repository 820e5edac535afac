"""predict CHECKPOINT IMAGE_OR_FOLDER...: probabilities, calibrated ones and operating-point decisions for image files.

    from tune_btxrd.inference.predict import predict_images
    found = predict_images("checkpoints/NAME/best_stratified.pt", ["radiographs/"])
    print(found.table)

CHECKPOINT may be a `.pt`, an exported timm folder or an `.onnx` file; the last is used without torch.
"""
# ruff: noqa: N803
# (shape suffixes: probabilities_NC)

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.readers.file_rules import images_below
from tune_btxrd.data.readers.names import is_formula
from tune_btxrd.errors import DataError
from tune_btxrd.files import encodable
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import BATCH, Predictor, open_model
from tune_btxrd.inference.patients import Files, find_patients
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import RULE, decide, rule_of
from tune_btxrd.search.columns import class_keys

DECODERS = 4  # threads; Pillow decodes without holding the interpreter lock


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of some files.

    Attributes:
        info: the model.
        files: those that could be read, in order; N of them.
        logits: (N, C) float32.
        broken: (file, reason) of those that could not; whoever asked for them must be told (exit code 2).
        notes: what must be said beside the answers, one line each.
    """

    info: ModelInfo
    files: tuple[Path, ...]
    logits: np.ndarray
    broken: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> np.ndarray:
        """What the model says by `rule`, in the form of the task's targets: the one decision of evaluation and prediction.

        Of exclusive classes: the loss of an imbalanced training counts rare classes for more, and its probabilities decide
        as if all classes were equally common. Calibration takes that back, so the most probable class can be another one.
        """
        return decide(self.logits, task=self.info.task, decisions=self.info.decisions)

    @property
    def rule(self) -> str:
        """What decides `predicted`, in words."""
        return rule_of(self.info.task, self.info.decisions)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C), as the model gives them."""
        return self.info.task.probabilities(self.logits)

    @property
    def calibrated(self) -> np.ndarray | None:
        """(N, C), or None for a model without a calibration."""
        return self.info.decisions.calibration.probabilities(self.logits) if self.info.decisions else None

    @property
    def table(self) -> pd.DataFrame:
        """Per readable file: predicted class and its rule, probabilities, calibrated ones, yes or no at each operating
        point. Of independent labels `decision_<label>` is 1 for yes, and `prob_<label>` the probability.
        """
        names, decisions, predicted = self.info.class_names, self.info.decisions, self.predicted
        columns: dict[str, np.ndarray | list[str] | str] = {"file": [safe_text(file) for file in self.files]}
        if self.info.task.exclusive:
            keys, probability = tuple(names), "probability"
            columns["predicted"] = self.info.task.texts(predicted, names)
        else:
            keys, probability = class_keys(names), "prob"
            columns |= {f"decision_{key}": predicted[:, index] for index, key in enumerate(keys)}
        columns["rule"] = self.rule
        for prefix, values in ((probability, self.probabilities), ("calibrated", self.calibrated)):
            if values is not None:
                columns |= {f"{prefix}_{key}": values[:, index] for index, key in enumerate(keys)}
        if decisions is not None:
            columns |= decisions.named_calls(self.logits, names)
        return pd.DataFrame(columns)

    def to_csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.table)

    def to_json(self) -> str:
        """{"model": ..., "rule": ..., "notes": [...], "images": [...], "broken": [...]}."""
        content = {
            "model": self.info.to_dict(),
            "rule": self.rule,
            "notes": self.notes,
            "images": json.loads(self.table.drop(columns="rule").to_json(orient="records")),
            "broken": [{"file": str(file), "reason": reason} for file, reason in self.broken],
        }
        return json.dumps(content, indent=1, ensure_ascii=False)


def predict_images(
    checkpoint: Path | str,
    images: Sequence[Path | str],
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predicts files and whole folders (with all that is in them); an unreadable file is reported, the rest goes on.

    Args:
        device: "auto", "cuda", "mps" or "cpu"; ONNX always runs on the CPU.
        progress: called with (files done, files).

    Raises:
        ResultError: the checkpoint cannot be used.
        DataError: a path does not exist, or there is no image.
    """
    predictor = open_model(Path(checkpoint), device=device)
    files, parts = samples_of(predictor.info, [Path(item) for item in images])
    return predict_files(predictor, files, parts=parts, progress=progress)


def samples_of(info: ModelInfo, paths: Sequence[Path]) -> tuple[list[Path], dict[Path, Files] | None]:
    """What a model is asked of: image files, or patients and the files of each. Raises: DataError."""
    if not info.channels:
        return image_files(paths), None
    parts = find_patients(paths, info.channels)
    return list(parts), parts


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    *,
    parts: Mapping[Path, Files] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """As `predict_images`, with an opened model and a list of files.

    Args:
        parts: of volumes: the files of each patient that `files` names.
    """
    readable: list[Path] = []
    broken: list[tuple[Path, str]] = []
    logits = [np.zeros((0, len(predictor.info.class_names)), dtype=np.float32)]
    for batch in _decoded(predictor, files, parts):
        good = [(file, pixels) for file, pixels in batch if isinstance(pixels, np.ndarray)]
        broken += [(file, pixels) for file, pixels in batch if isinstance(pixels, str)]
        if good:
            logits.append(predictor.forward(stack_samples([pixels for _, pixels in good])))
            readable += [file for file, _ in good]
        if progress is not None:
            progress(len(readable) + len(broken), len(files))
    found = Predictions(info=predictor.info, files=tuple(readable), logits=np.concatenate(logits), broken=tuple(broken))
    return replace(found, notes=(*predictor.notes, *_disagreement(found)))


def _disagreement(found: Predictions) -> Iterator[str]:
    """Says for how many images calibration makes another class the most probable one. Labels are decided by calibrated
    probabilities alone; of them only what was not fitted is said.
    """
    if not found.info.task.exclusive:
        yield from found.info.decisions.unfitted(found.info.class_names) if found.info.decisions else ()
        return
    if found.calibrated is None or not len(found.files):
        return
    other = int((found.info.task.decide(found.calibrated) != found.predicted).sum())
    if other:
        yield (
            f"For {other} of {len(found.files)} images another class than the predicted one is the most probable after "
            f"calibration; `predicted` is the {RULE}."
        )


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named that look like images, each once, folders in alphabetical order.

    Raises:
        DataError: a path does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(images_below(path))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"Every image must exist, but {path} does not: check the path.")
    if not found:
        raise DataError(f"There must be an image to predict, but {', '.join(map(str, paths))} holds none: name another.")
    return list(found)


def rank_uncertain(predictions: Predictions, *, labelled: Collection[str] = ()) -> pd.DataFrame:
    """The images to label first: by entropy of the (calibrated) probabilities, highest first, then by the smallest margin.

    Entropy is in nats; the margin is the difference between the two most probable classes. Of independent labels the entropy
    is the sum over labels and the margin the smallest difference between yes and no. The columns of labels are empty, to be
    filled in. Source: Settles, Active Learning Literature Survey, 2009, section 3.1.

    Args:
        labelled: names of files to leave out, since their label is known.
    """
    info, probabilities = predictions.info, predictions.calibrated
    probabilities = predictions.probabilities if probabilities is None else probabilities
    entropy, margin = _uncertainty(probabilities, exclusive=info.task.exclusive)
    empty = info.task.write(info.task.unknown(0, len(info.class_names)), info.class_names)
    table = pd.DataFrame(
        {
            "file": [safe_text(file) for file in predictions.files],
            **dict.fromkeys(empty, ""),
            "entropy": entropy,
            "margin": margin,
            "predicted": info.task.texts(predictions.predicted, info.class_names),
        }
    )
    table = table[[file.name not in labelled for file in predictions.files]]
    ranked = table.sort_values(["entropy", "margin"], ascending=[False, True], kind="stable", ignore_index=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def _uncertainty(probabilities_NC: np.ndarray, *, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """(N,) entropy and margin."""
    if exclusive:
        ordered = np.sort(probabilities_NC, axis=1)
        return -_p_log_p(probabilities_NC).sum(axis=1), ordered[:, -1] - ordered[:, -2]
    terms = _p_log_p(probabilities_NC) + _p_log_p(1 - probabilities_NC)
    return -terms.sum(axis=1), np.abs(2 * probabilities_NC - 1).min(axis=1)


def _p_log_p(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities * np.log(np.maximum(probabilities, 1e-300)))


def safe_text(file: Path) -> str:
    """The path as text that UTF-8 can hold and that no spreadsheet takes for a formula."""
    text = encodable(str(file))
    return f"./{text}" if is_formula(text) else text


def _decoded(
    predictor: Predictor, files: Sequence[Path], parts: Mapping[Path, Files] | None
) -> Iterator[list[tuple[Path, "np.ndarray | str"]]]:
    """Batches of (file, pixels or the reason why there are none); one batch is decoded while another is predicted."""

    def decode(file: Path) -> "np.ndarray | str":
        try:
            return predictor.decode(*(parts[file] if parts else (file,)))
        except UnreadableError as error:
            return error.reason

    with ThreadPoolExecutor(DECODERS) as pool:
        batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
        ahead = [pool.submit(decode, file) for file in batches[0]]
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            current, ahead = ahead, [pool.submit(decode, file) for file in following]
            yield [(file, future.result()) for file, future in zip(batch, current, strict=True)]
