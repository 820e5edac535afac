"""Checks of settings that must fit each other, before Ray is started: backbone, head, side, weights, dataset."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.console import tell
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.distributed.forks import in_fork
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.captured import check_capture
from tune_btxrd.search.space.combinations import combinations
from tune_btxrd.search.space.effects import batch_notes, config_notes, space_notes
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.models.names import (
    ANY_CONFIG,
    ModelChoice,
    check_backbone,
    is_volume_backbone,
    require_serving,
    weights_file,
)

MODEL_NAMES = ("backbone", "head", "image_size", "weights", "stem_stride")
OF_IMAGES = ("border", "blur", "equalize", "invert")
STAGING = ("stages", "backbone_share", "epochs")


def check_models(trained: SearchSpec | TrainConfig) -> None:
    """Checks every model that a search, or one config, can train, before anything is read or decoded.

    Raises:
        ConfigError: no such backbone, no file of weights, or two settings that do not fit.
    """
    check_capture(trained)
    for config in _values(trained):
        check_backbone(config["backbone"])
        if config["weights"] is not None:
            _check_weights(Path(config["weights"]), config["backbone"])
        _check_volumes(config)
    choices = {
        item
        for item in model_choices(trained)
        if item.weights is not None or not (item.backbone in ANY_CONFIG or is_volume_backbone(item.backbone))
    }
    if choices:  # timm brings torch: a process of its own keeps both out of the driver
        for note in in_fork(_check_fit, choices):
            tell(note)


def model_choices(trained: SearchSpec | TrainConfig) -> set[ModelChoice]:
    """Every model that a search, or one config, can train."""
    return {
        ModelChoice(
            **{name: config[name] for name in MODEL_NAMES},
            has_dropout=config["dropout"] > 0,
            is_staged=TrainConfig(**{name: config[name] for name in STAGING}).is_staged,
        )
        for config in _values(trained)
    }


def _values(trained: SearchSpec | TrainConfig) -> list[dict[str, Any]]:
    asked = (*MODEL_NAMES, *STAGING, "dropout", "pretrained", "checkpointing")
    return combinations(trained, asked) if isinstance(trained, SearchSpec) else [asdict(trained)]


def check_kind(trained: SearchSpec | TrainConfig, *, volumes: bool) -> None:
    """Raises ConfigError where a search, or one config, could train a backbone of images on volumes, or the reverse, or
    would do to volumes what scanners do to radiographs.
    """
    if volumes and (said := [name for name in OF_IMAGES if _is_said(trained, name)]):
        raise ConfigError(f"`{said[0]}` imitates scanners of radiographs, but the dataset holds volumes: leave it out.")
    values = combinations(trained, ["backbone"]) if isinstance(trained, SearchSpec) else [asdict(trained)]
    for config in values:
        require_serving(config["backbone"], volumes=volumes)


def _check_volumes(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for what volumes have not, or images."""
    if not is_volume_backbone(config["backbone"]):
        if config["checkpointing"]:
            raise ConfigError("`checkpointing: true` needs a backbone of volumes, but got one of images: leave it out.")
    elif config["pretrained"] and config["weights"] is None:
        raise ConfigError(
            f"No weights of {config['backbone']} can be downloaded: name MedicalNet's file with --weights FILE, or start "
            "from random weights with --no-pretrained."
        )


def check_losses(trained: SearchSpec | TrainConfig, task: Task) -> None:
    """Raises ConfigError where a search, or one config, could train with a loss of another task."""
    values = combinations(trained, ["loss"]) if isinstance(trained, SearchSpec) else [asdict(trained)]
    for config in values:
        task.require_loss(config["loss"])


def check_monitor(trained: SearchSpec | TrainConfig, manifest: Manifest, splits: Iterable[Split]) -> None:
    """Raises DataError where the monitored value would be undefined on the validation part of one of these splits."""
    for split in splits:
        manifest.task.require_monitored(trained.monitor, manifest.targets[manifest.rows(split.parts["val"])])


def _check_weights(path: Path, backbone: str) -> None:
    if not path.is_absolute():
        raise ConfigError(
            f"`weights` must be an absolute path, since trials run in folders of their own, but got {str(path)!r}: "
            f"write {path.resolve()}."
        )
    weights_file(path, backbone)


def tell_notes(
    trained: SearchSpec | TrainConfig, counts: Sequence[int], class_names: Sequence[str], *, images: int, task: Task
) -> None:
    """Says what takes no effect, and what is odd with this many training images, and this many of each class."""
    if isinstance(trained, SearchSpec):
        notes, batches = space_notes(trained), combinations(trained, ["batch_size", "accumulate", "sampling"])
    else:
        notes, batches = config_notes(trained), [asdict(trained)]
    notes += [f"{name} takes no effect: {task.name} data do not use it." for name in task.idle if _is_said(trained, name)]
    for note in [*notes, *batch_notes(batches, counts, class_names, images=images)]:
        tell(f"note: {note}")


def _is_said(trained: SearchSpec | TrainConfig, name: str) -> bool:
    """Whether a hyperparameter is searched, fixed, or not at its default."""
    if isinstance(trained, SearchSpec):
        return name in trained.fixed or any(dimension.name == name for dimension in trained.space)
    return bool(getattr(trained, name) != FIELDS[name].default)


def _check_fit(choices: Collection[ModelChoice]) -> list[str]:
    from tune_btxrd.training.models.fit import check_fit

    return check_fit(sorted(choices, key=str), num_classes=2)
