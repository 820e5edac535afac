"""What a training reads: samples and targets, on the host as a memory map or resident on the accelerator."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tune_btxrd.errors import DataError
from tune_btxrd.tasks.calibrated import fold_numbers
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.augment.kinds import SampleKind, kind_of


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Samples and targets of one split (N samples, C classes). Test rows have no place here.

    Raises:
        DataError: a class without a training image, an empty validation part, fewer than two training images.
    """

    images: np.ndarray  # uint8 (N, ...), usually a read-only memory map; never written
    targets: np.ndarray  # N rows, see `task`
    train_rows: np.ndarray  # int64, rows of `images` to train on
    val_rows: np.ndarray  # int64, rows of `images` to validate on
    num_classes: int
    positive_class: int  # index of the class to watch
    task: Task = DEFAULT
    channel_names: tuple[str, ...] = ()  # of volumes, in the order of the channels
    spacing: float | None = None  # of volumes: mm to which they were resampled; None: as they were
    centers: np.ndarray | None = None  # int64 (N,), index of each image's center, -1 for none; None: none are known
    num_centers: int = 0  # of the dataset
    window: tuple[float, float] | None = None  # of DICOM images: center and width of the view; None: the files' own
    groups: np.ndarray | None = None  # N names, equal where images belong together; None: all stand alone

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.targets) and 0 <= self.positive_class < self.num_classes
        assert not set(self.train_rows.tolist()) & set(self.val_rows.tolist())
        if len(self.val_rows) < 1 or len(self.train_rows) < 2:
            found = f"{len(self.train_rows)} and {len(self.val_rows)}"
            raise DataError(f"Training needs 2 images and validation 1, but the parts hold {found}: use more images.")
        self.task.require_trainable(self.train_counts)

    @property
    def val_centers(self) -> np.ndarray:
        """Index of each validation image's center, -1 where it is not known."""
        return np.full(len(self.val_rows), -1) if self.centers is None else self.centers[self.val_rows]

    @cached_property
    def kind(self) -> SampleKind:
        """What the samples are."""
        return kind_of(self.images)

    @property
    def image_size(self) -> int:
        """Length of a sample's sides, px."""
        return self.kind.side(self.images)

    @property
    def channels(self) -> int | None:
        """Channels of the model's input; None where the kind of samples alone decides it."""
        return self.kind.channels(self.images)

    @cached_property
    def train_counts(self) -> np.ndarray:
        """What weights are made of, e.g. (C,) training images per class."""
        return self.task.train_counts(self.targets[self.train_rows], self.num_classes)

    @cached_property
    def val_folds(self) -> np.ndarray:
        """(V,) int64 fold of each validation image, for scores that fit something on the others."""
        return fold_numbers(self.task.answers(self.targets[self.val_rows], self.num_classes), self.val_groups)

    @property
    def val_groups(self) -> np.ndarray:
        """(V,) equal where validation images belong together."""
        return self.val_rows if self.groups is None else self.groups[self.val_rows]


class Pixels:
    """All samples of a TrainingData, ready to be taken by row; on CUDA and MPS they are resident there."""

    def __init__(self, images: np.ndarray, device: torch.device) -> None:
        self.images = np.asarray(images)  # a plain view: indexing a memory map is slower
        self.kind = kind_of(self.images)
        self.device = device
        self.resident: Tensor | None = None
        if device.type != "cpu":
            self.resident = torch.empty(self.images.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(self.images), 1024):  # copies: a read-only map cannot be wrapped by torch
                chunk = torch.from_numpy(self.images[start : start + 1024].copy())
                self.resident[start : start + 1024].copy_(chunk)

    def take(self, rows: Tensor) -> Tensor:
        """uint8 samples of these rows (int64, on the device), on the device."""
        if self.resident is not None:
            return self.resident.index_select(0, rows)
        return torch.from_numpy(self.images[rows.numpy()])

    @staticmethod
    def key(images: np.ndarray) -> object:
        """Equal for arrays that surely hold the same pixels: views of one part of a file, or one and the same array.

        A cache file is named by what decides its bytes and never rewritten, so its name stands for them.
        """
        if isinstance(images, np.memmap) and images.filename is not None:
            return (str(images.filename), images.offset, images.shape, images.strides)
        return id(images)
