"""What an epoch trains and how fast: learning rates as pure functions of the epoch, and what a stage does to a training."""

import math

import torch
from torch import nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.stages import stage_at
from tune_btxrd.training.averages import Averages
from tune_btxrd.training.models.layers import BASE, HEAD, TOP, TRAINED, parts_of
from tune_btxrd.training.models.shell import load_tensors
from tune_btxrd.training.state import TrainState

ADAMS: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def cosine_lr(finished: int, config: TrainConfig) -> float:
    """Learning rate of the head after `finished` epochs, see `learning_rates`."""
    return learning_rates(finished, config)[HEAD]


def learning_rates(finished: int, config: TrainConfig) -> dict[str, float]:
    """Part -> learning rate after `finished` epochs; 0 while the part is frozen.

    In each stage from its share of lr down to min_lr, half a cosine: the closed form of torch's CosineAnnealingLR (SGDR,
    Loshchilov & Hutter 2017, eq. 5, without restarts). After the last epoch, the end of the last cosine.
    """
    stages = config.stage_list
    _, before, stage = stage_at(stages, min(finished + 1, config.epochs))
    share = (1 + math.cos(math.pi * (finished - before) / stage.epochs)) / 2
    rates = {}
    for part in (BASE, TOP, HEAD):
        peak = config.lr * (stage.lr_head if part == HEAD else stage.lr_backbone * config.backbone_share)
        low = min(config.min_lr, peak)
        rates[part] = low + (peak - low) * share if part in TRAINED[stage.trains] else 0.0
    return rates


def make_optimizer(model: nn.Module, config: TrainConfig, device: torch.device, *, precision: str) -> torch.optim.Optimizer:
    """The optimizer with weight decay on every parameter, as the hand-made config has it; one group per part that differs.

    Fused: a CPU step of AdamW takes 6 ms, not 42 (EfficientNet-B0). But torch's fused SGD begins with uninitialised
    momentum where fp16 leaves out the first step.
    """
    groups = [list(model.parameters())]
    if config.is_staged:
        parts = parts_of(model)
        groups = [[value for name, value in model.named_parameters() if parts[name] == part] for part in (BASE, TOP, HEAD)]
    wrapped = [{"params": group} for group in groups]
    lr, decay = config.lr, config.weight_decay
    fused = device.type != "mps" and (config.optimizer, precision) != ("sgd", "fp16")
    if config.optimizer == "sgd":
        return torch.optim.SGD(wrapped, lr=lr, weight_decay=decay, momentum=config.momentum, fused=fused)
    return ADAMS[config.optimizer](wrapped, lr=lr, weight_decay=decay, fused=fused)


def group_parts(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """The part of each optimizer group; a single group goes as fast as the head."""
    return (HEAD,) if len(optimizer.param_groups) == 1 else (BASE, TOP, HEAD)


def enter_epoch(state: TrainState) -> None:
    """Makes the next epoch's stage come true: learning rates, frozen layers, train mode.

    At the border to a new stage the optimizer forgets its moments and step counts, since they tell of other layers (and,
    with reload_best, of other weights); the model goes back to its best epoch where `reload_best` says so.
    """
    config, epoch = state.config, state.epoch + 1
    _, before, stage = stage_at(config.stage_list, epoch)
    if epoch == before + 1 and epoch > 1:
        state.optimizer.state.clear()
        if config.reload_best:
            _reload_best(state)
    rates, trained = learning_rates(state.epoch, config), TRAINED[stage.trains]
    for part, group in zip(group_parts(state.optimizer), state.optimizer.param_groups, strict=True):
        group["lr"] = rates[part]
        for parameter in group["params"]:
            parameter.requires_grad_(part in trained)
    state.model.train()
    for module in state.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and _is_frozen(module):
            module.eval()  # or its statistics would drift towards these images while its weights stand still


def _reload_best(state: TrainState) -> None:
    """The model goes back to the best epoch; averages begin there anew."""
    if state.best_epoch < state.epoch:
        assert state.best is not None
        load_tensors(state.model, state.best.model)
    elif state.averages is not None:
        load_tensors(state.model, state.averages.tensors)
    if state.averages is not None:
        state.averages = Averages(state.model, decay=state.config.ema)


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
