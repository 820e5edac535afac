"""StaticStep: forward and backward of a training step on fixed memory, so that CUDA can capture them once as a graph.

A step of EfficientNet-B0 is some thousand small launches; a graph is one. What differs between trials stays outside or is a
tensor: the optimizer with its lr and weight decay steps after the graph, the drop rate is a number in memory that given
noise is compared with. So one capture serves every trial of a slot; another loss, head, batch or image size needs its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.losses import LOSSES, Terms
from tune_btxrd.training.models.images import Shell

WARM_UP = 3  # steps before the capture, in which libraries choose their algorithms
BAKED = ("loss", "label_smoothing", "focal_gamma", "ldam_margin", "ldam_scale", "logit_tau", "batch_size", "image_size")


def threshold_dropout(values: Tensor, noise: Tensor, rate: Tensor) -> Tensor:
    """Dropout by given noise from [0, 1): values below the rate go, the others are scaled by 1 / (1 - rate).

    With rate 0 nothing changes. The same law as `torch.nn.functional.dropout`, with the rate in memory.
    """
    return values * (noise >= rate) / (1 - rate)


def step_key(config: TrainConfig, precision: str) -> tuple[object, ...]:
    """Equal for trainings that one capture serves."""
    return (config.backbone, precision, *(getattr(config, name) for name in BAKED))


class StaticStep:
    """Losses and gradients of full batches; on CUDA captured at the first one, elsewhere computed anew each time.

    Args:
        shell: its model is trained; its tensors stay where they are from trial to trial.
        classes: number of classes.
        precision: "fp32" or "bf16".

    Raises:
        ConfigError: a training whose layers freeze and thaw, or a head that is not linear.
    """

    def __init__(self, shell: Shell, config: TrainConfig, device: torch.device, *, classes: int, precision: str) -> None:
        head = shell.model.get_classifier()  # type: ignore[operator]  # every timm model has it
        if config.is_staged or not isinstance(head, nn.Linear):
            raise ConfigError("`capture: true` needs `stages: one` and `head: linear`, but got others: leave capture out.")
        self.key, self.config, self.precision = step_key(config, precision), config, precision
        self.shell, self.head, self.device = shell, head, device
        size, batch = config.image_size, config.batch_size
        images = torch.zeros(batch, 3, size, size, device=device)
        self.images = images.to(memory_format=torch.channels_last)
        self.targets = torch.zeros(batch, dtype=torch.int64, device=device)
        self.noise = torch.zeros(batch, head.in_features, device=device)
        self.rate = torch.zeros((), device=device)
        self.weights, self.counts = torch.ones(classes, device=device), torch.ones(classes, device=device)
        self.sums = torch.zeros(2, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._gradients: list[Tensor | None] = []

    def fits(self, images: Tensor) -> bool:
        """Whether this is a full batch; the last one of an epoch often is not."""
        return images.shape == self.images.shape

    def __call__(self, images: Tensor, targets: Tensor, terms: Terms) -> Tensor:
        """Leaves the gradients in the parameters; (2,) the batch's sum of weighted losses and sum of weights, detached."""
        self.images.copy_(images)
        self.targets.copy_(targets)
        self.weights.copy_(terms.weights_C)
        self.counts.copy_(terms.counts_C)
        self.rate.fill_(terms.config.dropout)
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
        terms = Terms(config=self.config, weights_C=self.weights, counts_C=self.counts)
        enabled = self.precision == "bf16"
        with (
            self._dropout_as_mask(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False),
        ):
            logits = self.shell.model(self.images)
        total = LOSSES[self.config.loss](logits.float(), self.targets, terms)
        weight = self.weights[self.targets].sum()
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
