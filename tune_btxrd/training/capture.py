"""StaticStep: forward and backward of a training step on fixed memory, so that CUDA can capture them once as a graph.

A step of EfficientNet-B0 is some thousand small launches; a graph is one. What differs between trials stays outside or is a
tensor: the optimizer with its lr and weight decay steps after the graph, the drop rate is a number in memory that given
noise is compared with. So one capture serves every trial of a slot; another loss, head, batch or image size needs its own.
What a graph bakes in is what its step can read: BAKED, and the fields that the loss declares (`tasks/losses.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.losses import Terms
from tune_btxrd.training.models.shell import Shell
from tune_btxrd.training.pixels import TrainingData

WARM_UP = 3  # steps before the capture, in which libraries choose their algorithms
BAKED = (
    "backbone",
    "head",
    "batch_size",
    "image_size",
    "tf32",
    "loss",
    "stem_stride",
    "checkpointing",
)  # beside the fields that the loss reads


def threshold_dropout(values: Tensor, noise: Tensor, rate: Tensor) -> Tensor:
    """Dropout by given noise from [0, 1): values below the rate go, the others are scaled by 1 / (1 - rate).

    With rate 0 nothing changes. The same law as `torch.nn.functional.dropout`, with the rate in memory.
    """
    return values * (noise >= rate) / (1 - rate)


def step_key(config: TrainConfig, data: TrainingData, precision: str) -> tuple[object, ...]:
    """Equal for trainings that one capture serves."""
    shapes = (data.task, data.num_classes, data.channels, data.targets.shape[1:], data.targets.dtype)
    fields = (*BAKED, *data.task.loss_fields(config.loss))
    return (precision, *shapes, *((name, getattr(config, name)) for name in fields))


class StaticStep:
    """Losses and gradients of full batches; on CUDA captured at the first one, elsewhere computed anew each time.

    Args:
        shell: its model is trained; its tensors stay where they are from trial to trial.
        data: says what targets are and how many classes there are; its images are not kept.
        precision: "fp32" or "bf16".

    Raises:
        ConfigError: a training whose layers freeze and thaw, a head that is not linear, a step of several batches, or fp16.
    """

    def __init__(
        self, shell: Shell, config: TrainConfig, data: TrainingData, *, device: torch.device, precision: str
    ) -> None:
        head = shell.model.get_classifier()  # type: ignore[operator]  # every timm model has it
        if config.is_staged or not isinstance(head, nn.Linear):
            raise ConfigError("`capture: true` needs `stages: one` and `head: linear`, but got others: leave capture out.")
        if config.accumulate > 1 or precision == "fp16":
            found = f"accumulate={config.accumulate}, precision={precision}"
            raise ConfigError(f"`capture: true` needs accumulate=1 without fp16, but got {found}: leave capture out.")
        self.key, self.precision, self.task = step_key(config, data, precision), precision, data.task
        self.shell, self.head, self.device = shell, head, device
        self.images = data.kind.blank(config.batch_size, config.image_size, device, channels=data.channels)
        one = torch.tensor(data.targets[:1], device=device)
        self.targets = one.new_zeros((config.batch_size, *one.shape[1:]))
        self.noise = torch.zeros(config.batch_size, head.in_features, device=device)
        self.rate = torch.zeros((), device=device)
        self.terms = data.task.terms(config, data.train_counts, 1, device)  # in memory of its own, filled before each step
        self.sums = torch.zeros(2, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._gradients: list[Tensor | None] = []

    def fits(self, images: Tensor) -> bool:
        """Whether this is a full batch; the last one of an epoch often is not."""
        return images.shape == self.images.shape

    def __call__(self, images: Tensor, targets: Tensor, terms: Terms, *, dropout: float) -> Tensor:
        """Leaves the gradients in the parameters; (2,) the batch's sum of weighted losses and sum of weights, detached."""
        self.images.copy_(images)
        self.targets.copy_(targets)
        for name, memory in self.terms.tensors().items():
            memory.copy_(getattr(terms, name))
        self.rate.fill_(dropout)
        self.noise.uniform_()  # from the device's generator, which the epoch has seeded
        if self.device.type != "cuda":
            return self._run()
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()
        for parameter, gradient in zip(self.shell.model.parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        return self.sums.clone()

    def _run(self) -> Tensor:
        """Forward and backward on the fixed memory."""
        enabled = self.precision == "bf16"
        with (
            self._dropout_as_mask(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False),
        ):
            logits = self.shell.model(self.images)
        total, weight = self.task.loss(logits.float(), self.targets, self.terms)
        torch.autograd.backward(total / weight)
        return torch.stack([total.detach(), weight])

    @contextmanager
    def _dropout_as_mask(self) -> Iterator[None]:
        """Inside, the model's own dropout is off and the mask stands before its classifier instead."""

        def mask(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (threshold_dropout(inputs[0], self.noise, self.rate),)

        places = [(module, name, getattr(module, name)) for module, name, _ in self.shell.dropout_places]
        handle = self.head.register_forward_pre_hook(mask)
        try:
            for module, name, _ in places:
                setattr(module, name, 0.0)
            yield
        finally:
            handle.remove()
            for module, name, rate in places:
                setattr(module, name, rate)

    def _capture(self) -> None:
        """Captures; the training is afterwards where it was, batch statistics included."""
        model = self.shell.model
        kept = {name: value.clone() for name, value in model.named_buffers()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types here
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run()
                model.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.sums = self._run()
        self._graph, self._gradients = graph, [parameter.grad for parameter in model.parameters()]
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(kept[name])
