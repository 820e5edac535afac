"""How a search begins or goes on: what was asked for, checked and written to `search.json` before Ray is started."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.console import warn
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.center_folds import CENTER_FOLDS
from tune_btxrd.data.splits.split_files import asked_name, split_stem
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ConfigError, DataError, ResultError, shell_word
from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.monitor import WORST_CENTER
from tune_btxrd.pipeline.centers import check_center_split, check_center_trials, check_centers
from tune_btxrd.pipeline.decoded import open_caches
from tune_btxrd.pipeline.earlier import seen_earlier
from tune_btxrd.pipeline.partitions import make_repeats, make_trial_centers, make_trial_folds
from tune_btxrd.pipeline.place import CHECKPOINTS, Place
from tune_btxrd.pipeline.prepare import (
    COMMON,
    Prepared,
    check_same_data,
    prepare,
    read_manifest,
    require_weights_allowed,
    write_prepared,
)
from tune_btxrd.pipeline.shipped import are_volumes, shipped_space, task_of_request
from tune_btxrd.pipeline.together import check_kind, check_losses, check_models, check_monitor, tell_notes
from tune_btxrd.results.search_json import (
    FIRST_DEFAULTS,
    SPACE_FILE,
    DatasetFacts,
    SearchFlags,
    SearchSettings,
    SpaceRequest,
    require_new,
)
from tune_btxrd.search.journal import FILE as JOURNAL
from tune_btxrd.search.record import SETTINGS_FILE
from tune_btxrd.search.space.knowledge import informed_by
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import SizedCache, Source

GROWING = ("trials", "confirm")  # settings that a search which goes on may have otherwise


def complete_space(space: SpaceRequest, data: DataRequest) -> SpaceRequest:
    """The same with the shipped file and the task's loss where none is said; the phantom starts from random weights.

    Raises:
        ConfigError: the phantom is to start from pretrained weights.
    """
    values = space.hyperparameters
    require_weights_allowed(data, pretrained=values.get("pretrained") is True, weights=values.get("weights"))
    if data.is_phantom:
        values = {**values, "pretrained": False}
    complete = dataclasses.replace(space, file=space.file or shipped_space(data), hyperparameters=values)
    spec, task = load_spec(complete), task_of_request(data)
    says_loss = "loss" in spec.fixed or any(dimension.name == "loss" for dimension in spec.space)
    if says_loss or FIELDS["loss"].default in task.losses:
        return complete
    return dataclasses.replace(complete, hyperparameters={**values, "loss": task.losses[0]})


def load_spec(space: SpaceRequest) -> SearchSpec:
    """A search space with what overrides it. Raises: ConfigError."""
    assert space.file is not None
    return informed_by(SearchSpec.load(space.file).override(space.settings, space.hyperparameters), space.knowledge)


def space_sizes(file: Path, data: DataRequest, image_size: int | None) -> tuple[int, tuple[int, ...]]:
    """Side of the images of the hand-made config of a search space, and every one that it searches.

    Args:
        image_size: as a flag says it, or None.

    Raises:
        ConfigError: no space for such data, or one that searches what the flag says.
    """
    spec = SearchSpec.load(file).override({}, {} if image_size is None else {"image_size": image_size})
    check_kind(spec, volumes=are_volumes(data))
    return spec.hand_made.image_size, spec.image_sizes


def begin(
    place: Place,
    data: DataRequest,
    space: SpaceRequest,
    *,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    device: str | None = None,
    time_budget: float | None = None,
    epoch_budget: int | None = None,
    config: TrainConfig | None = None,
    folds: int | str | None = None,
    nested: bool = False,
) -> SearchSettings:
    """Starts a results folder; without Ray, so that a mistake costs no start.

    Args:
        space: complete (see `complete_space`).
        split: what the search sees; splits: what is retrained.
        config: the one config of verb `train`; None for a search.
        folds: instead of splits: so many folds of all images, or CENTER_FOLDS; nested: a search of its own inside each.

    Raises:
        ConfigError, DataError, ResultError: the user's mistakes, each in one line, before anything is overwritten.
    """
    folder = place.folder
    require_new(folder)
    if place.exists:
        raise ResultError(
            f"Results are never overwritten, but {place.storage} has {place.name!r} already: go on with it "
            f"(--name {shell_word(place.name)} --resume), or choose another --name."
        )
    place.require_writable()
    spec = load_spec(space)
    kept = {name: getattr(spec, name) for name in FIRST_DEFAULTS}  # whatever a later version's defaults are
    space = dataclasses.replace(space, settings={**space.settings, **kept})
    check_losses(config or spec, task_of_request(data))
    check_kind(config or spec, volumes=are_volumes(data))
    check_models(config or spec)
    check_center_split(split, spec)
    size = (config or spec.hand_made).image_size
    prepared = prepare(
        data,
        image_size=size,
        image_sizes=() if config else spec.image_sizes,
        splits=splits,
        searched=COMMON if split in (None, CENTER_FOLDS) else split,
        searches=config is None,
        folds=folds,
    )
    by_center = make_trial_centers(prepared) if split == CENTER_FOLDS else {}
    if by_center:
        space = dataclasses.replace(space, settings={**space.settings, "folds_per_trial": len(by_center)})
        spec = load_spec(space)
    trial_folds = list(by_center.values()) or ([] if config else make_trial_folds(prepared, spec))
    check_monitor(config or spec, prepared.manifest, (prepared.searched, *prepared.splits.values(), *trial_folds))
    repeats = [] if config else make_repeats(prepared, spec, centers=list(by_center.values()))
    _check_centers(config or spec, prepared, trial_folds, [] if by_center else repeats)
    counts = prepared.searched.counts(prepared.manifest)["train"]
    images, names = len(prepared.searched.parts["train"]), prepared.manifest.class_names
    tell_notes(config or spec, counts, names, images=images, task=prepared.manifest.task)
    write_prepared(prepared, folder, partitions=[*trial_folds, *repeats])
    settings = dataclasses.replace(
        _settings(place, prepared, space, config=config, image_size=size),
        device=device or "auto",
    )
    flags = dataclasses.replace(
        settings.flags,
        time_budget=time_budget,
        epoch_budget=epoch_budget,
        folds=None if folds is None else len(prepared.splits),
        nested=nested,
        fold_centers=prepared.fold_centers,
        trial_centers=tuple(by_center),
    )
    settings = dataclasses.replace(settings, flags=flags)
    if by_center:
        settings = dataclasses.replace(settings, val_ratio=_val_ratio(trial_folds))
    sums = {path.stem: file_sha256(path) for path in sorted(Path(settings.source.splits).glob("*.csv"))}
    settings = dataclasses.replace(settings, split_sha256=sums)
    assert space.file is not None
    write_whole(folder / SPACE_FILE, space.file.read_text(encoding="utf-8"))
    (folder / JOURNAL).touch()
    settings.save(folder)  # last: a folder that has it is whole
    return settings


def _check_centers(
    trained: SearchSpec | TrainConfig, prepared: Prepared, trial_folds: Sequence[Split], repeats: Sequence[Split]
) -> None:
    """Raises DataError where a value by center is asked for and a part cannot give it; a center fold is one center."""
    manifest = prepared.manifest
    if isinstance(trained, SearchSpec):
        check_center_trials(trained, manifest, trial_folds)
        check_centers(trained, manifest, [] if trial_folds else [prepared.searched])
        more = "more images of the rarest class would mend it, or --confirm 0"
        check_centers(trained, manifest, repeats, cure=more)
    if trained.objective == WORST_CENTER:  # a constraint asks nothing of the final job
        check_centers(trained, manifest, [] if prepared.fold_centers else list(prepared.splits.values()))


def _settings(
    place: Place, prepared: Prepared, space: SpaceRequest, *, config: TrainConfig | None, image_size: int
) -> SearchSettings:
    searched, manifest = prepared.searched, prepared.manifest
    seen = {*searched.parts["train"], *searched.parts["val"], *seen_earlier(space.knowledge, place, manifest.sha256)}
    leak = {name: len(seen & set(split.parts["test"])) for name, split in prepared.splits.items() if not config}
    return SearchSettings(
        name=place.name,
        kind="train" if config else "search",
        dataset=DatasetFacts(name=manifest.dataset, path=str(manifest.root), sha256=manifest.sha256, images=len(manifest)),
        request=prepared.request.complete(),
        source=prepared.source(place.folder),
        space=space,
        splits={name: split_stem(name) for name in prepared.splits},
        searched=split_stem(searched.name),
        val_ratio=_val_ratio([searched]),
        device="auto",
        image_size=image_size,
        layout=None,
        checkpoints=((place.checkpoints or Path(CHECKPOINTS)) / place.name).resolve(),
        flags=SearchFlags(skipped=prepared.skipped, leak=leak),
        config=config.to_dict() if config else None,
    )


def _val_ratio(splits: Sequence[Split]) -> float:
    """Validation images / training images of what repeats are made like."""
    return statistics.fmean(len(split.parts["val"]) / len(split.parts["train"]) for split in splits)


def go_on(
    place: Place,
    data: DataRequest,
    space: SpaceRequest,
    *,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    device: str | None = None,
    time_budget: float | None = None,
    epoch_budget: int | None = None,
    config: Mapping[str, object] | None = None,
    folds: int | str | None = None,
    nested: bool = False,
) -> SearchSettings:
    """Opens the results folder that goes on. What is said again must be what it began with; more trials, another device
    or time budget, and moved data or checkpoints are taken.

    Args:
        config: of verb `train`: the hyperparameters that are said; None for a search.

    Raises:
        ConfigError: a value that it began with otherwise; both are named. ResultError, DataError: as `begin`.
    """
    settings = place.settings()
    _require_kind(settings, place, "search" if config is None else "train")
    place.require_writable(settings.checkpoints)
    for name, (began, now) in data.contradictions(settings.request).items():
        _refuse(name, began, now)
    searched = CENTER_FOLDS if settings.flags.trial_centers else settings.searched
    if split is not None and split_stem(asked_name(split)) != searched:
        _refuse("split", searched, split)
    if splits is not None and set(map(asked_name, splits)) != set(settings.splits):
        _refuse("splits", ",".join(settings.splits), ",".join(splits))
    began = CENTER_FOLDS if len(settings.flags.fold_centers) == settings.flags.folds else settings.flags.folds
    if folds is not None and folds != began:
        _refuse("splits" if CENTER_FOLDS in (folds, began) else "folds", began, folds)
    if nested and settings.flags.folds is None:
        raise ConfigError(
            f"--nested searches inside each of K folds, but {settings.name} began without --folds: leave it out."
        )
    if config is None:
        settings = dataclasses.replace(settings, space=_grown(settings, space, place.folder))
    elif settings.config is not None:
        _require_same_space(space, place.folder)
        for name, value in config.items():
            if TrainConfig.from_dict({**settings.config, name: value}).to_dict()[name] != settings.config.get(name, value):
                _refuse(name, settings.config.get(name), value)
    flags = settings.flags
    source, request = pixels(settings, data=data.data, cache=data.cache)
    settings = dataclasses.replace(
        settings,
        flags=dataclasses.replace(
            flags,
            time_budget=flags.time_budget if time_budget is None else time_budget,
            epoch_budget=flags.epoch_budget if epoch_budget is None else epoch_budget,
            nested=nested or flags.nested,
        ),
        device=device or settings.device,
        source=source,
        request=request.complete(),
    ).continued()
    settings.save(place.folder)
    return settings


def _require_kind(settings: SearchSettings, place: Place, kind: str) -> None:
    if settings.kind == kind:
        return
    if settings.kind == "train":
        raise ResultError(f"{settings.name} is one training without a search: go on with `{place.command('train')}`.")
    raise ResultError(f"{settings.name} is a search: go on with `{place.command('run')}`.")


def _grown(settings: SearchSettings, space: SpaceRequest, folder: Path) -> SpaceRequest:
    """The space of a search that goes on, with more trials where the user says so."""
    spec = settings.spec(folder)
    _require_same_space(space, folder)
    for name, value in space.settings.items():
        if name not in GROWING and getattr(spec, name) != value:
            _refuse(name, getattr(spec, name), value)
    spec.override({}, space.hyperparameters)  # says so where one of them is searched
    known = spec.hand_made.to_dict()
    for name, value in space.hyperparameters.items():
        if known[name] != value:
            _refuse(name, known[name], value)
    grown = {name: value for name, value in space.settings.items() if name in GROWING}
    return dataclasses.replace(settings.space, settings={**settings.space.settings, **grown})


def _require_same_space(space: SpaceRequest, folder: Path) -> None:
    """Raises ConfigError for a file that says something else than the one that it began with."""
    if space.file is not None and SearchSpec.load(space.file) != SearchSpec.load(folder / SPACE_FILE):
        _refuse("space", folder / SPACE_FILE, f"{space.file}, which differs")


def _refuse(name: str, began: object, now: object) -> None:
    flag = f"--set {name}" if name in FIELDS and name not in ("epochs", "seed") else f"--{name.replace('_', '-')}"
    raise ConfigError(
        f"What goes on keeps what it began with, but {flag} was {'not said' if began is None else began} and is now {now}: "
        "leave it out, or start another "
        "--name. Only --trials, --confirm, --time-budget and the device may change."
    )


def pixels(settings: SearchSettings, *, data: Path | None = None, cache: Path | None = None) -> tuple[Source, DataRequest]:
    """Where a search's pixels lie now, for every verb, and how its dataset is read: the cache of the search, or one made
    again (moved results, another machine, a cleared cache).

    Args:
        data: where the dataset is now, if it has moved; cache: where decoded images go.

    Raises:
        DataError: the dataset is gone, or has other ids or labels than the search saw; a split was changed.
    """
    _require_same_splits(settings)
    request = settings.request
    if data is not None:
        request = dataclasses.replace(request, data=data)
    if cache is not None:
        request = dataclasses.replace(request, cache=cache)
    known = [Path(path) for path in settings.source.caches]
    at_hand = all(path.is_dir() and (cache is None or path.parent == cache.resolve()) for path in known)
    if at_hand and data is None:
        return settings.source, request
    manifest = same_manifest(settings, request)
    sizes = [item.image_size for item in settings.source.sizes] or [settings.image_size]
    made = open_caches(request, manifest, sizes)
    for path, found in zip(known, made.values(), strict=True):
        _require_same_files(path, found.path, request)
    paths = {size: str(found.path.resolve()) for size, found in made.items()}
    several = tuple(SizedCache(image_size=size, cache=path) for size, path in paths.items() if settings.source.sizes)
    return dataclasses.replace(settings.source, cache=paths[settings.image_size], sizes=several), request


def _require_same_splits(settings: SearchSettings) -> None:
    """Raises DataError where a table of a split is not the one that the search began with: parts would be others."""
    for stem, sha256 in settings.split_sha256.items():
        path = Path(settings.source.splits) / f"{stem}.csv"
        if path.is_file() and file_sha256(path) != sha256:
            raise DataError(
                f"The splits must be those that the search began with, but {path} was changed since: restore it "
                "from a copy, or start another --name."
            )


def _require_same_files(known: Path, made: Path, request: DataRequest) -> None:
    """The end of a cache's name is the hash of all its files. Raises: DataError where an image was replaced meanwhile."""
    if known.name.rpartition("-")[2] == made.name.rpartition("-")[2]:
        return
    if request.is_phantom:  # its bytes change with the versions that draw it
        warn("The phantom's images are not those of the search (other library versions draw it): numbers may differ.")
        return
    raise DataError(
        f"The images must be those of the search, but files in {request.data} have been replaced since (cache {known.name} "
        f"became {made.name}): restore them, or start another --name."
    )


def same_manifest(settings: SearchSettings, request: DataRequest) -> Manifest:
    """The dataset of a search, read again. Raises: DataError where it is gone or another one."""
    manifest = read_manifest(request)
    check_same_data(manifest, settings.dataset.sha256)
    return manifest


def has_begun(place: Place) -> bool:
    """Whether a results folder is whole."""
    return (place.folder / SETTINGS_FILE).is_file()
