"""Grad-CAM: where in an image a model finds what speaks for a class, as heat maps and as overlays of image files."""
# ruff: noqa: N803
# (shape suffixes: N = images, S = side in px)

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from tune_btxrd.data.readers.registry import safe_name
from tune_btxrd.errors import ResultError
from tune_btxrd.inference.checkpoint_formats import blank_input
from tune_btxrd.inference.open_model import Predictor, network_input
from tune_btxrd.inference.overlays import save_overlay
from tune_btxrd.inference.patients import Files
from tune_btxrd.inference.volume_maps import flat, heat_of_volumes, write_nifti
from tune_btxrd.scoring.decisions import decide
from tune_btxrd.training.augment.kinds import serving

CAM_BATCH = 8  # images; gradients need more memory than answers
SMALLEST_MAP = 7  # a side, in cells: what the last layers of these backbones give at 224 px
Progress = Callable[[int, int], None]


def explain_files(
    predictor: Predictor,
    files: Sequence[Path],
    folder: Path,
    *,
    parts: Mapping[Path, Files] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """An overlay for the predicted class of each image file, beside the image, as `<file>_<class>.png` into `folder`;
    a second file of the same name gets a number. Of independent labels it is for the label to watch, whatever is predicted.
    Of volumes (`parts`: the files of each patient) three planes, and beside the picture the heat as NIfTI.

    Raises:
        ResultError: an ONNX model, or a backbone without feature maps.
        DataError: an image is unreadable.
    """
    info = predictor.info
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for done, file in enumerate(files, start=1):
        own = parts[file] if parts else (file,)
        image = predictor.decode(*own)
        asked = _asked(predictor, image)
        heat = grad_cam(predictor, image[None], np.array([asked]))[0]
        stem = safe_name(f"{file.stem}_{predictor.info.class_names[asked]}")
        names = (f"{stem}.png", *(f"{stem}-{number}.png" for number in range(2, len(files) + 2)))
        written.append(next(folder / name for name in names if folder / name not in written))
        save_overlay(*flat(image, heat), written[-1])
        if info.channels:
            path = written[-1].with_suffix(".nii.gz")
            write_nifti(heat, path, own, channels=info.channels, spacing=info.spacing)
        if progress is not None:
            progress(done, len(files))
    return written


def _asked(predictor: Predictor, image: np.ndarray) -> int:
    """The class whose heat is drawn: the predicted one; of independent labels the one to watch, else the first."""
    info = predictor.info
    if not info.task.exclusive:
        return info.decisions.positive_class if info.decisions else 0
    return int(decide(predictor.forward(image[None]), task=info.task, decisions=info.decisions)[0])


def grad_cam(
    predictor: Predictor, images: np.ndarray, classes_N: np.ndarray, *, progress: Progress | None = None
) -> np.ndarray:
    """(N, S, S), of volumes (N, S, S, S), float32 heat in [0, 1] for the given class of each sample: Grad-CAM (Selvaraju et
    al., ICCV 2017) as HiResCAM (Draelos and Carin, 2020), which keeps at each place its own gradient, not the map's mean.

    Raises:
        ResultError: an ONNX model, or a backbone without feature maps.
    """
    model, info = network(predictor), predictor.info
    blank = blank_input(info).numpy()
    layer = feature_layer(model, info.image_size, backbone=info.backbone, channels=info.channels)
    heat = [np.zeros_like(blank[:0, 0])]
    heat_of = heat_of_volumes if info.channels else _of_images
    for start in range(0, len(images), CAM_BATCH):
        inputs = torch.from_numpy(network_input(images[start : start + CAM_BATCH], info))
        heat.append(heat_of(model, layer, inputs, classes_N[start : start + CAM_BATCH]))
        if progress is not None:
            progress(min(start + CAM_BATCH, len(images)), len(images))
    return np.concatenate(heat)


def _of_images(model: nn.Module, layer: nn.Module, inputs: Tensor, classes: np.ndarray) -> np.ndarray:
    with HiResCAM(model=model, target_layers=[layer]) as cam:
        targets = [ClassifierOutputTarget(int(index)) for index in classes]
        return np.asarray(cam(input_tensor=inputs, targets=targets), dtype=np.float32)


def network(predictor: Predictor) -> nn.Module:
    """The model that has gradients. Raises: ResultError for ONNX, which has none."""
    if predictor.model is None:
        raise ResultError("Grad-CAM needs gradients, which ONNX models do not have: explain the .pt or the timm folder.")
    return predictor.model


@lru_cache(maxsize=1)  # asked for image after image, and a forward pass each time
def feature_layer(model: nn.Module, image_size: int, *, backbone: str = "", channels: tuple[str, ...] = ()) -> nn.Module:
    """The layer whose maps are explained: the last one with maps of at least SMALLEST_MAP a side, else of more than one
    cell. A small image shrinks to 2 x 2 cells in the last layers, which point nowhere (docs/LOG.md).

    Raises:
        ResultError: no layer gives maps.
    """
    kind, device = serving(backbone), next(model.parameters()).device
    blank = kind.blank(1, image_size, device, channels=len(channels) or None)
    seen: list[tuple[int, nn.Module]] = []

    def remember(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == blank.ndim:
            seen.append((min(output.shape[2:]), module))

    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    try:
        with torch.no_grad():
            model(blank)
    finally:
        for hook in hooks:
            hook.remove()
    for smallest in (SMALLEST_MAP, 2):
        if wide := [module for side, module in seen if side >= smallest]:
            return wide[-1]
    raise ResultError("Grad-CAM needs a backbone with feature maps, but this one gives none: choose another backbone.")
