"""Slot: what survives from one training to the next in one process, so that a training costs little more than its epochs."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.averages import Averages
from tune_btxrd.training.capture import StaticStep, step_key
from tune_btxrd.training.device import (
    allow_tf32,
    derive_seed,
    make_scaler,
    resolve_device,
    resolve_precision,
    seeded,
    set_up,
)
from tune_btxrd.training.memory import release_memory, set_up_memory
from tune_btxrd.training.models.names import require_serving, weights_file
from tune_btxrd.training.models.shell import Shell, build_shell, create
from tune_btxrd.training.models.weights import pretrained_tensors
from tune_btxrd.training.pixels import Pixels, TrainingData
from tune_btxrd.training.schedule import make_optimizer
from tune_btxrd.training.state import TrainState

Tensors = dict[str, Tensor]
INITIAL_KEPT = 4  # initial states kept in memory: several seeds or backbones in turn (16 MB each for efficientnet_b0)


class Slot:
    """Device, CPU threads, resident images, pretrained weights, model shells. One per process, one training at a time.

    A training in a used slot gives exactly the numbers of a fresh process: every start overwrites all that a training
    can change, whatever became of the one before.

    Args:
        device: "auto", "cuda", "mps" or "cpu".
        threads: CPU threads of torch in this process; None leaves them as they are.

    Raises:
        ConfigError: no such device here.
    """

    def __init__(self, *, device: str = "auto", threads: int | None = None) -> None:
        self.device = resolve_device(device)
        set_up(threads)
        set_up_memory()
        self._shells: dict[tuple[object, ...], Shell] = {}
        self._pretrained: dict[tuple[object, ...], Tensors] = {}
        self._initial: OrderedDict[tuple[object, ...], Tensors] = OrderedDict()
        self._pixels: tuple[object, Pixels] | None = None
        self._state: TrainState | None = None
        self._step: StaticStep | None = None

    def start(self, config: TrainConfig, data: TrainingData, *, keep_best: bool) -> TrainState:
        """A fresh training at epoch 0; the state of any earlier one in this slot is dead from here on.

        Args:
            keep_best: hold a copy of the best epoch's model and optimizer, for `checkpoint_dict(which="best")`.

        Raises:
            ConfigError: unknown backbone, weights that cannot be had or do not fit, impossible precision.
        """
        self._end_previous()
        return self._begin(config, data, self._initial_tensors(config, data), keep_best=keep_best)

    def restart(self, config: TrainConfig, data: TrainingData, tensors: Tensors, *, keep_best: bool) -> TrainState:
        """As `start`, but from these model tensors (all of them, by name) instead of the initial ones."""
        self._end_previous()
        return self._begin(config, data, tensors, keep_best=keep_best)

    def shell(self, config: TrainConfig, num_classes: int, *, channels: int | None = None) -> Shell:
        """The model of this backbone and head that all its trainings in this slot share. Raises: ConfigError."""
        key = _model_key(config, num_classes, channels)
        if key not in self._shells:
            self._shells[key] = build_shell(
                config.backbone,
                num_classes,
                self.device,
                head=config.head,
                channels=channels,
                stem_stride=config.stem_stride,
            )
        return self._shells[key]

    def _end_previous(self) -> None:
        if self._state is not None:
            self._state.live = False
            self._state.best = None
            self._state.optimizer.state.clear()
            self._state = None
            release_memory()

    def _begin(self, config: TrainConfig, data: TrainingData, tensors: Tensors, *, keep_best: bool) -> TrainState:
        require_serving(config.backbone, volumes=data.channels is not None)
        if data.image_size != config.image_size:
            raise ConfigError(f"`image_size` must be the cache's {data.image_size}, but got {config.image_size}.")
        shell = self.shell(config, data.num_classes, channels=data.channels)
        shell.reset(tensors, dropout=config.dropout, checkpointing=config.checkpointing)
        allow_tf32(self.device, allowed=config.tf32)
        precision = resolve_precision(config.precision, self.device)
        weights = data.task.class_weights(data.train_counts)
        self._state = TrainState(
            config=config,
            model=shell.model,
            optimizer=make_optimizer(shell.model, config, self.device, precision=precision),
            pixels=self._resident(data),
            data=data,
            targets=torch.tensor(data.targets, device=self.device),
            train_rows=torch.tensor(data.train_rows, device=self.device),
            val_rows=torch.tensor(data.val_rows, device=self.device),
            class_weights=torch.tensor(weights, dtype=torch.float32, device=self.device),
            mean=torch.tensor(shell.mean, device=self.device),
            std=torch.tensor(shell.std, device=self.device),
            device=self.device,
            precision=precision,
            keep_best=keep_best,
            averages=Averages(shell.model, decay=config.ema) if config.ema else None,
            scaler=make_scaler(self.device, precision),
            static_step=self._captured(shell, config, data, precision),
        )
        return self._state

    def _captured(self, shell: Shell, config: TrainConfig, data: TrainingData, precision: str) -> StaticStep | None:
        """The captured step of the last training where it serves this one too."""
        if not config.capture or self.device.type != "cuda":
            return None
        if self._step is None or self._step.shell is not shell or self._step.key != step_key(config, data, precision):
            self._step = None  # first away with the old one's memory
            self._step = StaticStep(shell, config, data, device=self.device, precision=precision)
        return self._step

    def _resident(self, data: TrainingData) -> Pixels:
        key = Pixels.key(data.images)
        if self._pixels is None or self._pixels[0] != key:
            self._pixels = None  # first away with the old ones
            self._pixels = (key, Pixels(data.images, self.device))
        return self._pixels[1]

    def _initial_tensors(self, config: TrainConfig, data: TrainingData) -> Tensors:
        """The start of a training: it depends on backbone, head, classes, channels, seed and weights, on nothing else."""
        source = _weights_key(config)
        key = (*_model_key(config, data.num_classes, data.channels), config.seed, source)
        if key not in self._initial:
            with seeded(derive_seed(config.seed, "init"), self.device):
                model = create(
                    config.backbone,
                    data.num_classes,
                    head=config.head,
                    channels=data.channels,
                    stem_stride=config.stem_stride,
                )
            tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
            if source is not None:
                self._initial[key] = tensors | self._pretrained_tensors(config, model, (*source, data.channels))
            else:
                self._initial[key] = tensors
        self._initial.move_to_end(key)
        while len(self._initial) > INITIAL_KEPT:
            self._initial.popitem(last=False)
        return self._initial[key]

    def _pretrained_tensors(self, config: TrainConfig, model: torch.nn.Module, source: tuple[object, ...]) -> Tensors:
        key = (config.backbone, *source)
        if key not in self._pretrained:
            self._pretrained[key] = pretrained_tensors(model, config.backbone, config.weights)
        return self._pretrained[key]


def _model_key(config: TrainConfig, num_classes: int, channels: int | None) -> tuple[object, ...]:
    """Equal for trainings whose models have the same tensors."""
    return (config.backbone, config.head, num_classes, channels, config.stem_stride)


def _weights_key(config: TrainConfig) -> tuple[object, ...] | None:
    """Names where the weights come from; None for random ones. A file of weights wins over timm's own."""
    if config.weights is not None:
        path = weights_file(Path(config.weights), config.backbone)
        stat = path.stat() if path.exists() else None
        return (str(path), stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)
    return ("timm",) if config.pretrained else None
