"""The hold-out of a label store as `evaluate` takes it: as it is labelled now, decoded, with what is to be said of it."""

from collections.abc import Sequence
from pathlib import Path

from tune_btxrd.console import progress
from tune_btxrd.data.audit.near_across import near_across
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.current_holdout import CurrentHoldout, current_holdout
from tune_btxrd.data.readers.names import examples
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.splits import HOLDOUT
from tune_btxrd.evaluation.evaluate_split import Holdout
from tune_btxrd.labels.status import small_holdout
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline.decoded import open_caches
from tune_btxrd.results.checkpoints import FinishedSplit
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.training.source import Source


def holdout_now(
    chosen: Sequence[FinishedSplit], settings: SearchSettings, request: DataRequest, *, manifest: Manifest, source: Source
) -> Holdout | None:
    """The hold-out to be opened; None where no chosen split tests on one.

    Raises:
        DataError: nothing of it is labelled, an image is gone or holds something else.
    """
    if manifest.event is None or not any(item.name == HOLDOUT for item in chosen):
        return None
    with LabelStore(manifest.root, read_only=True) as store:
        openings = store.openings()
    found = current_holdout(
        manifest,
        exclude=read_ids(request.exclude) if request.exclude else (),
        opened_at=openings[0].event if openings else None,
    )
    trained_on = ImageCache.open(Path(source.cache))
    caches: dict[int, ImageCache] = {}
    if not set(found.ids) <= set(trained_on.image_ids):
        apart = found.manifest.without(set(found.manifest.image_ids) - set(found.ids))
        caches = open_caches(request, apart, source.sides)
    cache = caches.get(trained_on.image_size, trained_on)
    notes = [*found.notes(), *small_holdout(len(found.groups)), *_look_alikes(found, cache, trained_on)]
    return Holdout(labelled=found, caches=caches, notes=tuple(notes))


def _look_alikes(found: CurrentHoldout, cache: ImageCache, trained_on: ImageCache) -> Sequence[str]:
    """Says which images of the hold-out nearly equal one that was trained or chosen on: copies under another patient."""
    held = set(found.ids)
    others = [image_id for image_id in found.manifest.image_ids if image_id not in held]
    with progress("compared") as advance:
        pairs = near_across(found.manifest, (found.ids, cache), (others, trained_on), progress=advance)
    if not pairs:
        return ()
    images = len({first for first, _ in pairs})
    told = examples([f"{first} and {second}" for first, second in pairs])
    return (
        f"{images:,} image(s) of the hold-out look like one that was trained on ({told}): if they are of one patient, these "
        "scores are too good.",
    )
