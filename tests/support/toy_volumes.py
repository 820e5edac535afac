"""Volumes whose brightness tells the class, and MedicalNet's files as they are published, made here."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.training.models.shell import create
from tune_btxrd.training.pixels import TrainingData

SIDE = 32


def volume_data(*, train: int = 9, val: int = 6, channels: int = 1, side: int = SIDE, seed: int = 0) -> TrainingData:
    """Noisy cubes of two classes, the second brighter in its middle; zeros at the border as background."""
    rng = np.random.default_rng(seed)
    count = train + val
    targets = (np.arange(count) % 2).astype(np.int64)
    volumes = np.zeros((count, side, side, side, channels), dtype=np.uint8)
    inner = side - 8
    volumes[:, 4:-4, 4:-4, 4:-4] = rng.integers(80, 140, (count, inner, inner, inner, channels))
    volumes[:, 12:-12, 12:-12, 12:-12] += (80 * targets[:, None, None, None, None]).astype(np.uint8)
    rows = rng.permutation(count)
    for array in (targets, volumes, rows):
        array.setflags(write=False)
    return TrainingData(
        images=volumes, targets=targets, train_rows=rows[:train], val_rows=rows[train:], num_classes=2, positive_class=1
    )


def volume_config(**changes: Any) -> TrainConfig:
    """The smallest 3D ResNet from random weights, two epochs of three batches."""
    tiny = {"backbone": "resnet3d_10", "stem_stride": 2, "pretrained": False, "image_size": SIDE}
    return TrainConfig.from_dict(tiny | {"epochs": 2, "batch_size": 3, "dropout": 0.1} | changes)


def medicalnet_file(path: Path, backbone: str = "resnet3d_10", *, legacy: bool = True, head: bool = True) -> nn.Module:
    """Writes a file as MedicalNet's are: one channel, `module.` before every name, in `state_dict`, beside other entries;
    `legacy` is torch's format before 1.6, no zip. Returns the model whose tensors it holds.
    """
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = create(backbone, 2)
    tensors = {f"module.{name}": value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    if head:
        tensors["module.conv_seg.0.weight"] = torch.zeros(512, 32, 2, 2, 2)
    content = {"epoch": 90, "state_dict": tensors, "optimizer": {"param_groups": [{"lr": 1e-3}]}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return model
