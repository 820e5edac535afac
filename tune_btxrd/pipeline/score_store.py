"""Verb `labels score` as a function: what a model says of every image of a label store, and the queue that follows."""
# ruff: noqa: N806
# (shape suffixes: N = images, D = features, L = labels)

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune_btxrd.console import heading, progress, say, tell, warn
from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.decode import UnreadableError, decode_image
from tune_btxrd.data.readers.store_file import is_store
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError, shell_word
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline.compute import Compute
from tune_btxrd.results.checkpoints import finished_splits
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.tasks.registry import task_named

if TYPE_CHECKING:  # torch is loaded once there is something to score
    from tune_btxrd.inference.model_info import ModelInfo
    from tune_btxrd.pipeline.scorers import Backbone, Scorer

FIRST_STRATEGY = "typiclust"  # before there is a model
STRATEGY = "uncertain+typiclust"  # with a model: the one that lost nowhere, see benchmarks/results/active_learning.md
HEAD = 200  # images that are ranked at once; those behind come at random, until the next score
BATCH = 32  # images a pass
DECODERS = 4  # threads; Pillow decodes without holding the interpreter lock
AHEAD = 3  # batches that are decoded while one is in the model
KEPT_SECONDS = 2.0  # scores are written at least as often: what a kill can cost


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of it.

    Attributes:
        model: name of the model; "" where there was none.
        scored: images scored now; before: by the same model, earlier.
        missing: files that are not there; broken: (path, reason) of files that are no images.
        ranked: images in the queue's head; strategy: what ranked them; "random": nothing did.
    """

    model: str = ""
    scored: int = 0
    before: int = 0
    missing: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    ranked: int = 0
    strategy: str = ""


def score_store(
    path: Path,
    *,
    checkpoint: Path | None = None,
    name: str | None = None,
    event: int | None = None,
    backbone: "Backbone | None" = None,
    strategy: str | None = None,
    head: int = HEAD,
    device: str = "auto",
) -> Scored:
    """Scores every image outside the hold-out that this model has not scored yet, and ranks those that need a label.

    Without a model: the features of a pretrained backbone, or, where there are no weights, images come at random.

    Args:
        checkpoint: .pt file or timm folder; name: how people call it; default: by its path.
        event: last event of the labels that the model was trained on.
        backbone: what stands in before there is a model.
        strategy: what ranks (`labels.acquisition.STRATEGIES`, or several joined by "+"); head: how many images.

    Raises:
        DataError: the store cannot be used. ConfigError: a strategy that needs a model where there is none.
        ResultError: the checkpoint cannot be used, or knows no label of the store.
    """
    with LabelStore(path) as store:
        if checkpoint is None and backbone is None and store.latest_model() is not None:
            return _ranked_anew(store, strategy, head)
        scorer = _scorer(store, checkpoint, name, event=event, backbone=backbone, device=device)
        if scorer is None:
            store.write_ranking([], acquisition="random", model=None)
            return Scored(strategy="random")
        model = store.begin_model(scorer.name, scorer.sha256, event=scorer.event)
        found = _score(store, model, scorer)
        store.end_model(model)
        if scorer.is_backbone and (latest := store.latest_model()) is not None:
            model = latest  # a backbone scored beside a model: the model's opinion ranks
        strategy = strategy or (STRATEGY if store.latest_model() == model else FIRST_STRATEGY)
        return replace(found, ranked=rank_store(store, model, strategy, head=head), strategy=strategy)


def score_trained(
    settings: SearchSettings,
    path: Path | None = None,
    *,
    strategy: str | None = None,
    head: int = HEAD,
    device: str | None = None,
) -> Scored:
    """`score_store` by the winner of a search's or training's first split.

    Args:
        path: the store; None: the one that was trained on.

    Raises: as `score_store`; ResultError where nothing is trained yet.
    """
    path = path or settings.request.data
    assert path is not None
    split = finished_splits(settings.checkpoints)[0]
    return score_store(
        path,
        checkpoint=split.winner,
        name=f"{settings.name}/{split.stem}",
        event=settings.request.event,
        strategy=strategy,
        head=head,
        device=device or settings.device,
    )


def score_labelled(settings: SearchSettings, compute: Compute) -> None:
    """What `run` and `train` end with where the dataset is a label store: its images are scored and ranked."""
    path = settings.request.data
    if path is None or settings.request.event is None:
        return
    heading(f"Score the images of {path.name}, so that the next `label` asks for what helps (--no-score leaves it out)")
    say_scored(score_trained(settings, device=compute.device), path)


def check_score(data: DataRequest | None, *, score: bool, resume: bool) -> None:
    """Raises ConfigError where --no-score would change nothing."""
    if not score and not resume and (data is None or data.data is None or not is_store(data.data)):
        raise ConfigError("--no-score leaves out the scoring of a label store, but --data names none: leave it away.")


def rank_store(store: LabelStore, model: int, strategy: str, *, head: int = HEAD) -> int:
    """Ranks the images that need a label by what a model says of them; how many are ranked. Decided by the last event."""
    from tune_btxrd.labels.acquisition import ScoredPool
    from tune_btxrd.labels.queue import rank

    images, features_ND = store.features(model)
    usable, wanted = {*store.pool().images, *store.finished().images}, set(store.pool().images)
    kept = np.asarray([image in usable for image in images], dtype=bool)
    numbers = np.asarray(images, dtype=np.int64)[kept]
    probabilities_NL = store.probabilities(model, numbers.tolist())
    pool = ScoredPool(
        features_ND=features_ND[kept],
        probabilities_NL=None if np.isnan(probabilities_NL).all() else np.nan_to_num(probabilities_NL, nan=0.5),
        known_NL=store.known(numbers.tolist()) >= 0,
        candidates=np.flatnonzero([image in wanted for image in numbers.tolist()]),
        task=task_named(store.task),
    )
    rows = rank(pool, strategy, head=head, seed=store.last_event)
    store.write_ranking(numbers[rows].tolist(), acquisition=strategy, model=model)
    return len(rows)


def say_scored(found: Scored, path: Path) -> None:
    """What came of it, for people. Files that are gone or broken are named."""
    for file in found.missing:
        warn(f"{file} is not there: it is skipped until `labels add` finds it again.")
    for file, reason in found.broken:
        warn(f"{file} {reason}: it is not scored.")
    if found.model:
        say(f"{path}: {found.scored:,} image(s) scored by {found.model}, {found.before:,} before.")
    how = (
        f"{found.ranked:,} image(s) ranked by {found.strategy}"
        if found.ranked
        else "No image is ranked: they come at random"
    )
    say(f"{how}. Next: python -m tune_btxrd label {shell_word(str(path))}")


def _ranked_anew(store: LabelStore, strategy: str | None, head: int) -> Scored:
    """Without a model at hand: ranks by what the latest one said, for labels have come since."""
    model = store.latest_model()
    assert model is not None
    tell("No model is named: ranked by the predictions that the store has.")
    if unseen := len(set(store.pool().images) - store.scored(model)):
        warn(f"{unseen:,} image(s) have no prediction and come at random: name the model with --checkpoint to score them.")
    strategy = strategy or STRATEGY
    return Scored(ranked=rank_store(store, model, strategy, head=head), strategy=strategy)


def _scorer(
    store: LabelStore,
    checkpoint: Path | None,
    name: str | None,
    *,
    event: int | None,
    backbone: "Backbone | None",
    device: str,
) -> "Scorer | None":
    from tune_btxrd.pipeline.scorers import Backbone, backbone_scorer, checkpoint_scorer

    if checkpoint is not None:
        found = checkpoint_scorer(checkpoint, store.labels, task=store.task, name=name, event=event, device=device)
        unknown = [label.name for label, column in zip(store.labels, found.columns, strict=True) if column is None]
        if unknown:
            warn(f"{checkpoint} does not know {', '.join(unknown)}: taken for undecided.")
        return found
    try:
        return backbone_scorer(backbone or Backbone(), store.labels, device=device)
    except ConfigError as error:
        if backbone is not None:
            raise
        warn(f"There is no model yet, and no pretrained one either, so images come at random. {error}")
        return None


def _score(store: LabelStore, model: int, scorer: "Scorer") -> Scored:
    """Writes what is not there yet, in blocks; a kill costs the last block, and the next call goes on."""
    done = store.scored(model)
    pools = (store.pool(), store.finished())  # those that need a label first
    todo = [
        (image, store.folder / path, sha256)
        for pool in pools for image, path, sha256 in zip(pool.images, pool.paths, pool.sha256, strict=True)
        if image not in done
    ]  # fmt: skip
    total = sum(len(pool.images) for pool in pools)
    written, missing, broken = 0, list[str](), list[tuple[str, str]]()
    keeper = _Keeper(store, model)
    with progress("scored") as advance:
        for batch in _decoded(todo, scorer.reader.predictor.info):
            good = [(image, pixels) for image, _, pixels in batch if isinstance(pixels, np.ndarray)]
            for image, file, reason in batch:
                if not isinstance(reason, str):
                    continue
                if file.is_file():
                    broken.append((str(file), reason))
                else:
                    missing.append(str(file))
                    store.set_missing(image, missing=True)
            if good:
                features, logits = scorer.reader(stack_samples([pixels for _, pixels in good]))
                keeper.keep([image for image, _ in good], scorer.probabilities(logits), features)
                written += len(good)
            advance(len(done) + written + len(missing) + len(broken), total)
        keeper.write()
    return Scored(
        model=scorer.name,
        scored=written,
        before=len(done),
        missing=tuple(missing),
        broken=tuple(broken),
    )


class _Keeper:
    """Writes scores in blocks of KEPT_SECONDS: each is one transaction."""

    def __init__(self, store: LabelStore, model: int) -> None:
        self.store, self.model = store, model
        self.since = time.monotonic()
        self.images: list[int] = []
        self.probabilities: list[np.ndarray] = []
        self.features: list[np.ndarray] = []

    def keep(self, images: Sequence[int], probabilities: np.ndarray, features: np.ndarray) -> None:
        self.images += images
        self.probabilities.append(probabilities)
        self.features.append(features)
        if time.monotonic() - self.since > KEPT_SECONDS:
            self.write()

    def write(self) -> None:
        if self.images:
            self.store.write_scores(
                self.model, self.images, np.concatenate(self.probabilities), features=np.concatenate(self.features)
            )
        self.images, self.probabilities, self.features = [], [], []
        self.since = time.monotonic()


def _decoded(
    files: Sequence[tuple[int, Path, str]], info: "ModelInfo"
) -> Iterator[list[tuple[int, Path, "np.ndarray | str"]]]:
    """Batches of (image, file, pixels or the reason why there are none), decoded while earlier ones are in the model.

    Args:
        files: image, its file, and the hash of the content that the image is.
    """

    def decode(file: Path, sha256: str) -> "np.ndarray | str":
        try:
            return decode_image(file, info.image_size, sha256=sha256, window=info.window)
        except UnreadableError as error:
            return error.reason

    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting = [[pool.submit(decode, file, sha256) for _, file, sha256 in batch] for batch in batches[:AHEAD]]
        for number, batch in enumerate(batches):
            pixels = [future.result() for future in waiting.pop(0)]
            if number + AHEAD < len(batches):
                waiting.append([pool.submit(decode, file, sha256) for _, file, sha256 in batches[number + AHEAD]])
            yield [(image, file, found) for (image, file, _), found in zip(batch, pixels, strict=True)]
