"""A trained model in any form in which it travels: our `.pt`, one from elsewhere, a timm folder, ONNX. All answer alike.

`open_model(path)` gives a Predictor: uint8 images in, logits out. For ONNX neither torch nor timm is imported.
"""
# (shape suffixes: images_BSS, logits_BC; B = batch, S = side in px, C = classes)

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune_btxrd.data.cache.arrays import normalised
from tune_btxrd.data.cache.decode import UnreadableError, decode_image
from tune_btxrd.data.cache.volumes import decode_volume
from tune_btxrd.errors import ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.model_info import (
    INFO_FILE,
    INFO_KEY,
    MANIFEST_FILE,
    WEIGHTS_KEY,
    ModelInfo,
    check_exported,
    read_object,
)
from tune_btxrd.scoring.decisions import Decisions

if TYPE_CHECKING:  # ONNX models are used without torch
    import onnx
    from torch import nn

BATCH = 32
FORMS = ("timm", "model.onnx")  # in the folder of an export
MOST_ONNX_BYTES = 2**31  # what the format itself can hold


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model that is ready to answer.

    Attributes:
        info: what it is.
        forward: uint8 samples as the cache has them, B of them -> (B, C) finite float32 logits; else it raises ResultError.
        model: the torch module; None for ONNX.
        notes: what whoever uses it must be told, one line each.
    """

    info: ModelInfo
    forward: Callable[[np.ndarray], np.ndarray]
    model: "nn.Module | None" = None
    notes: tuple[str, ...] = ()

    def logits(
        self, images: np.ndarray, rows: np.ndarray | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """(N, C) float32 logits of decoded images, or of these rows of them, in batches of BATCH."""
        wanted = np.arange(len(images)) if rows is None else rows
        parts = [np.zeros((0, len(self.info.class_names)), dtype=np.float32)]
        for start in range(0, len(wanted), BATCH):
            parts.append(self.forward(np.asarray(images[wanted[start : start + BATCH]])))
            if progress is not None:
                progress(min(start + BATCH, len(wanted)), len(wanted))
        return np.concatenate(parts)

    def decode(self, *files: Path | None) -> np.ndarray:
        """One sample as the cache would hold it, uint8; of volumes one file per channel, and none may lack.

        Raises:
            UnreadableError: a file is unreadable, or is not there.
        """
        info = self.info
        if not info.channels:
            (file,) = files
            assert file is not None
            return decode_image(file, info.image_size, window=info.window)
        absent = [name for name, file in zip(info.channels, files, strict=True) if file is None]
        if absent:
            raise UnreadableError("", f"has no {' and no '.join(absent)}")
        return decode_volume(files, info.image_size, channels=info.channels, spacing=info.spacing).pixels


def open_model(path: Path, *, device: str = "cpu") -> Predictor:
    """The model in `path`: a `.pt` checkpoint, a timm folder (`config.json` + `model.safetensors`), an `.onnx` file, or
    the folder that `export` names, which holds these.

    Args:
        device: "auto", "cuda", "mps" or "cpu"; ONNX always runs on the CPU.

    Raises:
        ResultError: in one line, what is wrong with the file.
        ConfigError: no such device.
    """
    if not path.is_dir() and not path.is_file():
        raise ResultError(f"A checkpoint must be a file or an exported folder, but {path} is none: check the path.")
    path = _of_export(path)
    check_exported(path)
    if path.is_dir():
        return _open_folder(path, device)
    return open_onnx(path) if path.suffix == ".onnx" else open_checkpoint(path, device=device)


def open_checkpoint(path: Path, *, device: str = "cpu") -> Predictor:
    """A `.pt` of ours, or one from elsewhere in the common style. Raises: ResultError, ConfigError."""
    from tune_btxrd.inference.checkpoint_formats import read_checkpoint

    digest = file_sha256(path)
    model, info = read_checkpoint(path, sha256=digest)
    decisions, notes = _decisions_beside(path, info)
    return replace(torch_predictor(model, replace(info, decisions=decisions), device=device), notes=notes)


def torch_predictor(model: "nn.Module", info: ModelInfo, *, device: str = "cpu") -> Predictor:
    """A module with the given info; it is moved to the device and set to eval mode. Computes in float32."""
    import torch

    from tune_btxrd.training.augment.kinds import kind_of, serving
    from tune_btxrd.training.device import resolve_device

    place = resolve_device(device)
    model.to(device=place, memory_format=serving(info.backbone).memory_format(place)).eval()  # type: ignore[call-overload]  # known to torch, not its stubs
    mean, std = torch.tensor(info.mean, device=place), torch.tensor(info.std, device=place)

    @torch.inference_mode()
    def forward(images: np.ndarray) -> np.ndarray:
        kind, batch = kind_of(images), torch.from_numpy(np.array(images)).to(place)  # a copy: the cache is read-only
        logits: np.ndarray = model(kind.normalise(kind.to_float(batch), mean, std)).float().cpu().numpy()
        return _checked(logits, len(images), info)

    return Predictor(info=info, forward=forward, model=model)


def open_onnx(path: Path) -> Predictor:
    """An ONNX file of ours, run by onnxruntime on the CPU, without torch. Raises: ResultError."""
    import onnx
    import onnxruntime

    if (size := path.stat().st_size) > MOST_ONNX_BYTES:
        raise ResultError(f"An ONNX file must be smaller than {MOST_ONNX_BYTES:,} bytes, but {path} has {size:,}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its own lines about a damaged file are no message of ours
    try:
        # from bytes, a file cannot name others beside it that would be read too
        content = path.read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        described = session.get_modelmeta().custom_metadata_map.get(INFO_KEY)
    except Exception as error:  # onnxruntime raises its own kinds on damaged files
        raise ResultError(f"An ONNX file must be complete, but {path} cannot be read: export it again.") from error
    if described is None:
        raise ResultError(f"An ONNX file must carry its preprocessing, but {path} has none: export it with `export`.")
    try:
        values = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise ResultError(
            f"An ONNX file must be complete, but {path} describes itself by broken JSON: export it."
        ) from error
    info = ModelInfo.from_dict(values, source=path)
    if WEIGHTS_KEY in values and values[WEIGHTS_KEY] != graph_sha256(onnx.load_model_from_string(content)):
        raise ResultError(f"{path} must be as it was exported, but the SHA-256 of its weights differs: export it again.")

    def forward(images: np.ndarray) -> np.ndarray:
        try:
            found = np.asarray(session.run(None, {"pixels": network_input(images, info)})[0], dtype=np.float32)
        except Exception as error:  # as above
            raise ResultError(
                f"An ONNX file must take its own images, but {path} takes none of {info.image_size} px: export it again."
            ) from error
        return _checked(found, len(images), info)

    return Predictor(info=info, forward=forward)


def graph_sha256(model: "onnx.ModelProto") -> str:
    """Hex digest of an ONNX model's weights: their names and bytes, in order."""
    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        digest.update(tensor.name.encode())
        digest.update(tensor.raw_data)
    return digest.hexdigest()


def network_input(images: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Decoded uint8 samples -> the model's normalised float32 input, without torch."""
    return normalised(images, mean=info.mean, std=info.std)


def _of_export(path: Path) -> Path:
    """For the folder that `export` writes, the form in it to open: timm's where it has one, else ONNX; else the path."""
    if not (path / MANIFEST_FILE).is_file() or not (path / INFO_FILE).is_file():
        return path
    return next((path / form for form in FORMS if (path / form).exists()), path)


def _open_folder(path: Path, device: str) -> Predictor:
    from tune_btxrd.inference.checkpoint_formats import read_timm_folder

    model, info = read_timm_folder(path)
    return torch_predictor(model, info, device=device)


def _checked(logits: np.ndarray, images: int, info: ModelInfo) -> np.ndarray:
    """The logits; an answer that says nothing is no answer. Raises: ResultError."""
    if logits.shape != (images, len(info.class_names)):
        raise ResultError(
            f"A model must give {len(info.class_names)} logits per image, but gave {logits.shape}: use another."
        )
    if not np.isfinite(logits).all():
        raise ResultError("A model's logits must be finite, but some are not: it is damaged or has diverged, use another.")
    return logits


def _decisions_beside(path: Path, info: ModelInfo) -> tuple[Decisions | None, tuple[str, ...]]:
    """Those that an export has fitted for exactly this checkpoint, beside it or in an export; else a note."""
    split, notes = path.stem.removeprefix("best_"), list[str]()
    for candidate in (
        path.parent / INFO_FILE,
        path.parent / split / "export" / INFO_FILE,
        path.parent / "export" / INFO_FILE,
    ):
        if candidate.is_file():
            check_exported(candidate)
            found = ModelInfo.from_dict(read_object(candidate), source=candidate)
            if found.checkpoint_sha256 == info.checkpoint_sha256:
                return found.decisions, ()
            notes.append(
                f"{candidate} was fitted for another checkpoint than {path}, so nothing here is calibrated: "
                "`export` fits it anew."
            )
    return None, tuple(notes[:1])
