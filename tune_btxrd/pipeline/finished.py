"""The verbs on a search that has ended: `evaluate`, `explain`, `export`, `report`, `trial`. All find its pixels alike."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_btxrd.console import heading, progress, say, tell
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.files import held_alone, require_writable
from tune_btxrd.pipeline.holdout import holdout_now
from tune_btxrd.pipeline.place import STORAGE, Place
from tune_btxrd.pipeline.prepare import duplicates_of
from tune_btxrd.pipeline.start import pixels, same_manifest
from tune_btxrd.results.checkpoints import FinishedSplit, chosen_splits
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.training.source import Source

if TYPE_CHECKING:
    from tune_btxrd.distributed.reproduce import Reproduction
    from tune_btxrd.evaluation.evaluate import Evaluation
    from tune_btxrd.evaluation.explain import Explained
    from tune_btxrd.inference.export import Exported


def evaluate(
    name: str,
    *,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    splits: Sequence[str] | None = None,
    device: str = "auto",
    agreed: Callable[[Sequence[str]], None] | None = None,
) -> "Evaluation":
    """Scores winner and hand-made config of a search on the test part of each split. Every opening is logged.

    The hold-out of a label store is taken as it is labelled now; what was trained on stays as it was.

    Args:
        splits: some of those that were retrained; default: all.
        agreed: called with the splits once all that can fail without looking is done, before a test part is opened; it
            raises where the user does not agree.

    Raises:
        ResultError, DataError: no checkpoints, a damaged one, the dataset is gone or another one.
    """
    from tune_btxrd.evaluation.evaluate import open_test_parts, seal_search

    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    settings, chosen, source, request, manifest = _retrained(place, splits=splits, data=data, cache=cache)
    with held_alone(settings.checkpoints, "evaluation"):
        holdout = holdout_now(chosen, settings, request, manifest=manifest, source=source)
        for note in holdout.notes if holdout else ():
            tell(note)
        with progress("prepared") as advance:
            sealed = seal_search(
                settings.checkpoints,
                results=place.folder,
                manifest=manifest,
                pairs=duplicates_of(request, manifest),
                source=source,
                splits=splits,
                holdout=holdout,
                device=device,
                progress=advance,
            )
        if agreed is not None:
            agreed([item.split.name for item in sealed.splits])
        with progress("scored") as advance:
            return open_test_parts(sealed, progress=advance)


def explain(
    name: str,
    *,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    splits: Sequence[str] | None = None,
    device: str = "auto",
) -> "list[Explained]":
    """Where the winner of each split looks on its validation part: a contact sheet, and the pointing game where lesions
    are annotated. No test part is opened.

    Raises: as `evaluate`.
    """
    from tune_btxrd.evaluation.explain import explain_search

    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    settings, _, source, _, manifest = _retrained(place, splits=splits, data=data, cache=cache)
    with progress("explained") as advance:
        return explain_search(
            settings.checkpoints,
            results=place.folder,
            manifest=manifest,
            source=source,
            splits=splits,
            device=device,
            progress=advance,
        )


def _retrained(
    place: Place, *, splits: Sequence[str] | None, data: Path | None, cache: Path | None
) -> tuple[SearchSettings, list[FinishedSplit], Source, DataRequest, Manifest]:
    """A retrained search: its splits, pixels and dataset, wherever they lie now. A split that is missing is told first."""
    settings = place.settings()
    chosen = chosen_splits(settings.checkpoints, splits)
    require_writable(settings.checkpoints, "choose other --checkpoints")
    source, request = pixels(settings, data=data, cache=cache)
    return settings, chosen, source, request, same_manifest(settings, request)


def export(
    name: str,
    *,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    push_to_hub: str | None = None,
    public: bool = False,
) -> "list[Exported]":
    """The winning checkpoint of each split in portable formats, each loaded back and compared.

    Args:
        push_to_hub: a repository of Hugging Face's hub where they go too; public: whether everybody may read it.

    Raises: as `evaluate`; ConfigError where the hub cannot be reached or the repository be written.
    """
    from tune_btxrd.inference.hub import reach_repo

    if public and push_to_hub is None:
        raise ConfigError("--public is about a repository on the hub, but --push-to-hub names none: leave it out.")
    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    settings = place.settings()
    chosen_splits(settings.checkpoints, None)  # before pixels are decoded
    require_writable(settings.checkpoints, "choose other --checkpoints")
    repo = None if push_to_hub is None else reach_repo(push_to_hub, public=public)
    made = export_place(place, settings, pixels(settings, data=data, cache=cache)[0])
    if repo is not None:
        heading("Hub")
        say(f"  {repo.push(made)} ({'public' if public else 'private'})")
    return made


def export_place(place: Place, settings: SearchSettings, source: Source) -> "list[Exported]":
    """The same for a search that is open already."""
    from tune_btxrd.inference.export import export_search

    heading("Export")
    with held_alone(settings.checkpoints, "export"), progress("exported") as advance:
        made = export_search(settings.checkpoints, results=place.folder, source=source, progress=advance)
    for item in made:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in item.differences.items())
        tell(f"  {item.folder}: largest difference of a logit on {item.images} images: {differences}")
    return made


def report(name: str, *, storage: str = STORAGE, checkpoints: Path | None = None) -> Path:
    """One self-contained page, figures and tables of a search; returns the page. Raises: ResultError."""
    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    return report_place(place, place.settings())


def report_place(place: Place, settings: SearchSettings) -> Path:
    """The same for a search that is open already."""
    from tune_btxrd.report.page import write_report

    heading("Report")
    checkpoints = settings.checkpoints if place.checkpoints is not None else None
    with progress("report") as advance:
        page = write_report(place.folder, checkpoints=checkpoints, progress=advance)
    say(f"  {page}")
    return page


def trial(
    name: str, label: str, *, storage: str = STORAGE, data: Path | None = None, cache: Path | None = None
) -> "Reproduction":
    """One trial of a search again, alone; `label`: its number, or 7r2 for a confirmation repeat.

    Raises:
        ResultError: no such trial, or its numbers came out differently. DataError: the dataset is gone.
    """
    from tune_btxrd.distributed.reproduce import reproduce, session_threads

    place = Place(name=name, storage=storage)
    settings = place.settings()
    threads = session_threads(place.folder, label)
    source, _ = pixels(settings, data=data, cache=cache)

    def heard(row: Mapping[str, Any]) -> None:
        say(f"  epoch {row['epoch']}: val loss {row['val_loss']:.6f}")

    splits = settings.spec(place.folder).trial_splits(settings.searched)
    found = reproduce(place.folder, label, source, splits=splits, device=settings.device, threads=threads, heard=heard)
    if not found.is_equal:
        epoch, number, old, new = found.differences[0]
        raise ResultError(
            f"Trial {label} should give the same numbers again, but {number} of epoch {epoch} is {new} instead of {old}: "
            f"they are equal on the same CPU, {threads} thread(s) and the versions in search.json."
        )
    return found
