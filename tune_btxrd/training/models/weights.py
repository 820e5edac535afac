"""Pretrained weights of a backbone without its classifier: from timm's hub, or from a file with any class head."""

import difflib
import http.client
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
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
from tune_btxrd.training.models.names import is_volume_backbone, weights_file

MATCHED = 0.9  # share of a backbone of volumes that a file must have at least
PROBE_SECONDS = 4.0  # huggingface_hub itself retries for 46 s before it says that there is no network
WRAPPERS = ("model_state_dict", "state_dict", "state_dict_ema", "model")


def pretrained_tensors(model: nn.Module, backbone: str, file: str | None) -> dict[str, Tensor]:
    """Every tensor of `model` but its classifier's, by name, float32 on the CPU: from `file`, else from timm's hub.

    Args:
        file: a file, or a folder with one file per backbone (`weights_file`).

    Raises:
        ConfigError: no such file, a file of another backbone, or no network and nothing cached.
    """
    if is_volume_backbone(backbone):
        return taken_tensors(model, backbone, file).tensors
    if file is None:
        return _fitting(_from_hub(backbone), model, source=f"timm's {backbone}")
    path = weights_file(Path(file), backbone)
    return _fitting(_from_file(path), model, source=str(path))


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a model of volumes takes from a file of weights.

    Attributes:
        tensors: every tensor of the model but its classifier's; those that the file lacks start at random.
        source: the file; wanted: how many tensors the model could have taken.
        missing: names that the file lacks; left_out: names of the file that the model has no place for.
    """

    tensors: dict[str, Tensor]
    source: str
    wanted: int
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def words(self) -> str:
        """What was taken and what not, in one line."""
        taken = self.wanted - len(self.missing)
        return (
            f"weights: {taken} of {self.wanted} tensors of the backbone from {self.source}; missing: "
            f"{_some(self.missing)}; left out: {_some(self.left_out)}"
        )


def taken_tensors(model: nn.Module, backbone: str, file: str | None) -> Taken:
    """The tensors of a file for a model of volumes, MedicalNet's files as they are published among them.

    Their names begin with `module.` inside `state_dict`; heads are left out. They are of one channel: for more, the first
    convolution is repeated and divided by their number, so that equal channels give what one gave.

    Raises:
        ConfigError: no file, or one that has less than MATCHED of the backbone; it says why.
    """
    if file is None:
        raise ConfigError(
            f"No weights of {backbone} can be downloaded, so `--weights FILE` must name MedicalNet's file, but none is "
            "named: name it, or start from random weights with --no-pretrained."
        )
    path, head = weights_file(Path(file), backbone), classifier_prefixes(model)
    wanted = {name: value for name, value in model.state_dict().items() if not name.startswith(head)}
    found = _without_prefix(_from_file(path), wanted)
    stem = next(iter(wanted))
    if (given := found.get(stem)) is not None and given.shape[1:2] == (1,) and given.ndim == wanted[stem].ndim:
        channels = wanted[stem].shape[1]
        found = {**found, stem: given.repeat_interleave(channels, dim=1) / channels}
    places = [name for name in wanted if not name.endswith(COUNTER)]
    absent = [name for name in places if name not in found]
    odd = [name for name in places if name in found and found[name].shape != wanted[name].shape]
    missing = tuple(name for name in places if name in {*absent, *odd})
    if len(places) - len(missing) < MATCHED * len(places):
        raise ConfigError(
            f"At least {MATCHED:.0%} of {backbone} must be in a file of weights, but {path} has "
            f"{len(places) - len(missing)} of its {len(places)} tensors: {_why(absent, odd, found, wanted)}. "
            "Change --backbone, or name its own file."
        )
    _require_finite({name: found[name] for name in places if name not in missing}, path)
    kept = {name: value for name, value in found.items() if name in wanted and name not in missing}
    return Taken(
        tensors={name: kept[name].to(value.dtype) if name in kept else value.clone() for name, value in wanted.items()},
        source=path.name,
        wanted=len(places),
        missing=missing,
        left_out=tuple(name for name in found if name not in wanted),
    )


def _without_prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the prefix taken off under which most of the model's names are found, e.g. `module.`."""
    prefixes = {""} | {name.removesuffix(own) for own in wanted for name in tensors if name.endswith(f".{own}")}
    best = max(sorted(prefixes), key=lambda prefix: sum(prefix + own in tensors for own in wanted))
    return {name.removeprefix(best): value for name, value in tensors.items()}


def _why(absent: list[str], odd: list[str], found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first reason why tensors do not match."""
    if odd:
        shapes = f"{tuple(found[odd[0]].shape)} instead of {tuple(wanted[odd[0]].shape)}"
        return f"{odd[0]} is {shapes}, and {len(odd) + len(absent) - 1} more do not fit"
    near = difflib.get_close_matches(absent[0], found, n=1)
    return f"it has no {absent[0]!r}{f' (nearest: {near[0]})' if near else ''}, and lacks {len(absent) - 1} more"


def _some(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else "none"


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Starts of the names of the parameters that depend on the number of classes, e.g. ("classifier.",)."""
    config: Any = model.pretrained_cfg
    names: str | tuple[str, ...] = config["classifier"]
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _from_hub(backbone: str) -> Mapping[str, Tensor]:
    """timm's own loading; a file that the hub's cache holds is used without asking the network."""
    config = timm.models.get_pretrained_cfg(backbone)
    cached = _cached(config.hf_hub_id) if config is not None and config.hf_hub_id else None
    if cached is None and not hub_answers():
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


def hub_answers() -> bool:
    """Whether Hugging Face's hub answers within PROBE_SECONDS. A thread, because looking a name up knows no time limit."""
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
        if odd := _changed_record(path):
            raise ValueError(f"{odd} is not what was written: bits have changed")
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


def _changed_record(path: Path) -> str | None:
    """The first record of a zip that its checksum does not fit. Files of torch before 1.6 are none and have no checksums."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _require_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ConfigError(f"Weights must be finite, but {name} in {source} is not: use another file.")


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
    _require_finite({name: found[name] for name in wanted if name in found}, source)
    return {name: found[name].to(value.dtype) if name in found else value.clone() for name, value in wanted.items()}
