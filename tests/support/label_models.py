"""A tiny network with random weights as a checkpoint, and as pretrained weights: what scores a label store in tests."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from tune_btxrd.training.models.shell import create

BACKBONE, SIDE = "test_efficientnet", 32


def save_checkpoint(path: Path, labels: Sequence[str], *, task: str = "multilabel", seed: int = 0) -> Path:
    """A `.pt` file of a network that knows these labels."""
    torch.manual_seed(seed)
    values = {
        "model_state_dict": create(BACKBONE, len(labels)).state_dict(),
        "config": {"backbone": BACKBONE, "image_size": SIDE},
        "class_names": list(labels),
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "task": task,
    }
    torch.save(values, path)
    return path


def save_weights(folder: Path, *, seed: int = 0) -> Path:
    """A folder with pretrained weights of the backbone."""
    torch.manual_seed(seed)
    folder.mkdir()
    safetensors.torch.save_file(create(BACKBONE, 1000).state_dict(), folder / f"{BACKBONE}.safetensors")
    return folder
