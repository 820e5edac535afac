"""Pretrained weights of a backbone without its classifier: from timm's hub, or from a file with any class head."""

import difflib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from tune_btxrd.errors import ConfigError, first_line
from tune_btxrd.training.models.key_names import COUNTER, under_own_names
from tune_btxrd.training.models.names import weights_file

PROBE_SECONDS = 4.0  # huggingface_hub itself retries for 46 s before it says that there is no network
WRAPPERS = ("model_state_dict", "state_dict", "state_dict_ema", "model")


def pretrained_tensors(model: nn.Module, backbone: str, file: str | None) -> dict[str, Tensor]:
    """Every tensor of `model` but its classifier's, by name, float32 on the CPU: from `file`, else from timm's hub.

    Args:
        file: a file, or a folder with one file per backbone (`weights_file`).

    Raises:
        ConfigError: no such file, a file of another backbone, or no network and nothing cached.
    """
    if file is None:
        return _fitting(_from_hub(backbone), model, source=f"timm's {backbone}")
    path = weights_file(Path(file), backbone)
    return _fitting(_from_file(path), model, source=str(path))


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Starts of the names of the parameters that depend on the number of classes, e.g. ("classifier.",)."""
    config: Any = model.pretrained_cfg
    names: str | tuple[str, ...] = config["classifier"]
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _from_hub(backbone: str) -> Mapping[str, Tensor]:
    """timm's own loading; a file that the hub's cache holds is used without asking the network."""
    config = timm.models.get_pretrained_cfg(backbone)
    cached = _cached(config.hf_hub_id) if config is not None and config.hf_hub_id else None
    if cached is None and not _online():
        raise ConfigError(_no_network(backbone))
    overlay = {"file": cached} if cached else None
    try:
        model = timm.create_model(backbone, pretrained=True, pretrained_cfg_overlay=overlay)
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise ConfigError(f"{_no_network(backbone)} ({type(error).__name__}: {reason})") from error
    tensors: Mapping[str, Tensor] = model.state_dict()
    return tensors


def _cached(hub_id: str) -> str | None:
    repo, _, revision = hub_id.partition("@")
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(path, str):
            return path
    return None


def _online() -> bool:
    """Whether the hub answers within PROBE_SECONDS. A thread, because looking a name up knows no time limit."""
    answers: list[bool] = []
    probe = threading.Thread(target=lambda: answers.append(_answers(constants.ENDPOINT)), daemon=True)
    if not constants.HF_HUB_OFFLINE:
        probe.start()
        probe.join(PROBE_SECONDS)
    return any(answers)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # an error page is an answer
    except (OSError, http.client.HTTPException):
        return False
    return True


def _no_network(backbone: str) -> str:
    return (
        f"Pretrained weights of {backbone} must be at hand, but they cannot be downloaded: name a file with --weights FILE, "
        f"start from random weights with --no-pretrained, or fill the hub cache {constants.HF_HUB_CACHE} beforehand."
    )


def _from_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"`--weights` must name a file, but {path} is none.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything, from EOFError to UnpicklingError
        reason = first_line(error)
        raise ConfigError(f"`--weights` must be readable as plain tensors, but {path} is not: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise ConfigError(f"`--weights` must hold named tensors, but {path} holds none: give a state dict.")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _fitting(tensors: Mapping[str, Tensor], model: nn.Module, *, source: str) -> dict[str, Tensor]:
    """The tensors under the model's names, classifier dropped, every other name and shape checked."""
    head = classifier_prefixes(model)
    wanted = {name: value for name, value in model.state_dict().items() if not name.startswith(head)}
    found = under_own_names(tensors, wanted)
    absent = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    if absent:
        near = difflib.get_close_matches(absent[0], found, n=1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ConfigError(f"Weights must be of this backbone, but {source} has no {absent[0]!r}{hint}: change --backbone.")
    for name, value in wanted.items():
        if name in found and found[name].shape != value.shape:
            shapes = f"{tuple(found[name].shape)} instead of {tuple(value.shape)}"
            raise ConfigError(f"Weights must be of this backbone, but {name} in {source} is {shapes}: change --backbone.")
    extra = [name for name in found if name not in wanted and not name.startswith(head)]
    if extra:
        raise ConfigError(f"Weights must be of this backbone, but {source} also has {extra[0]!r}: change --backbone.")
    return {name: found[name].to(value.dtype) if name in found else value.clone() for name, value in wanted.items()}
