"""Features: what the layer before the classifier sees, caught in the same pass that gives the logits."""
# ruff: noqa: N806
# (shape suffixes: B = batch, D = features, C = classes)

import hashlib
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from tune_btxrd.errors import ResultError
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import Predictor, torch_predictor
from tune_btxrd.training.models.images import normalization
from tune_btxrd.training.models.shell import create, load_tensors
from tune_btxrd.training.models.weights import classifier_prefixes, pretrained_tensors

NOBODY = ("no", "yes")  # classes of a backbone that was never asked about any


class FeatureReader:
    """Features and logits of a model in one pass."""

    def __init__(self, predictor: Predictor) -> None:
        """Raises: ResultError for ONNX, which shows its logits alone."""
        if predictor.model is None:
            raise ResultError("Features need a .pt file or a timm folder, but this is an ONNX file: give one of those.")
        self.predictor = predictor
        self._caught: Tensor | None = None
        classifier_of(predictor.model).register_forward_pre_hook(self._catch)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, D) float32 features and (B, C) float32 logits of uint8 samples as the cache has them."""
        logits_BC = self.predictor.forward(images)
        assert self._caught is not None
        features_BD = self._caught.flatten(1).float().cpu().numpy()
        self._caught = None
        return features_BD, logits_BC

    def _catch(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._caught = inputs[0]


def classifier_of(model: nn.Module) -> nn.Module:
    """The layer, or layers, that turn features into logits."""
    return model.get_submodule(classifier_prefixes(model)[0].removesuffix("."))


def pretrained_backbone(backbone: str, weights: Path | None, *, image_size: int, device: str = "cpu") -> Predictor:
    """A backbone with its pretrained weights and a classifier that means nothing: for its features alone.

    Args:
        weights: a file, or a folder with one file per backbone; None: timm's hub.

    Raises:
        ConfigError: no such backbone, or no weights at hand.
    """
    model = create(backbone, len(NOBODY))
    found = pretrained_tensors(model, backbone, str(weights) if weights else None)
    load_tensors(model, {**model.state_dict(), **found})
    mean, std = normalization(model)
    info = ModelInfo(backbone=backbone, image_size=image_size, mean=mean, std=std, class_names=NOBODY, checkpoint_sha256="")
    return torch_predictor(model, info, device=device)


def weights_sha256(predictor: Predictor) -> str:
    """Names a network by its tensors, classifier left out, and by the side of its images."""
    assert predictor.model is not None
    digest = hashlib.sha256(f"{predictor.info.backbone} {predictor.info.image_size}".encode())
    head = classifier_prefixes(predictor.model)
    for name, tensor in sorted(predictor.model.state_dict().items()):
        if not name.startswith(head):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
