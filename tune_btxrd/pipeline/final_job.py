"""The final job of a search: the winner and the hand-made config trained on every split, and the closing table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, progress, say, show, tell, warn
from tune_btxrd.data.splits.split_files import asked_name
from tune_btxrd.distributed.retrain import run_jobs
from tune_btxrd.errors import ResultError
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.site import CHECKPOINTS, Site
from tune_btxrd.report.training_curves import draw_curves
from tune_btxrd.results.checkpoints import RetrainJob, plan_jobs
from tune_btxrd.results.member_list import member_lists
from tune_btxrd.results.search_json import Layout, SearchSettings
from tune_btxrd.results.summary import closing_table, selection_lines, write_summary
from tune_btxrd.search.budget import minutes
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.record import read_search
from tune_btxrd.search.selection.winner import Selection, select
from tune_btxrd.training.source import Source


def plan_final_job(
    settings: SearchSettings, folder: Path, *, splits: Sequence[str] | None, seeds: int, hand_made_seeds: int | None = None
) -> list[RetrainJob]:
    """The trainings of a final job: winner and hand-made config, or the one config of verb `train`.

    Args:
        hand_made_seeds: trainings of the hand-made config on each split; None: as many as of the winner.

    Raises:
        ResultError: no winner yet, or a split that the search did not leave out.
    """
    winner, hand_made = _configs(settings, folder)
    return plan_jobs(
        settings.checkpoints,
        _chosen_splits(settings.splits, splits),
        winner,
        hand_made,
        seeds=seeds,
        hand_made_seeds=hand_made_seeds,
        is_alone=settings.kind == "train",
    )


def sizes_of(jobs: Sequence[RetrainJob]) -> list[int]:
    """Every `image_size` that is trained at, px."""
    return sorted({job.config.image_size for job in jobs})


def run_final_job(jobs: Sequence[RetrainJob], source: Source, site: Site, *, device: str, layout: Layout) -> None:
    """Trains all jobs that have not ended before, and draws their curves; one process at a time.

    Raises: as `run_jobs`.
    """
    splits = dict.fromkeys(job.split for job in jobs)
    heading(f"Retrain: {len(jobs)} training(s) on {', '.join(splits)}")
    weights = _weights(jobs, layout)
    total = sum(job.config.epochs * weights[job.config.image_size] for job in jobs)
    unit = f" (as at {min(weights)} px)" if len(weights) > 1 else ""
    with progress(f"retrain epochs{unit}") as advance:
        run_jobs(
            jobs,
            source,
            device=device,
            threads=layout.threads,
            cpus=min(layout.cpus, site.cluster.cpus),
            gpus=layout.gpus if site.cluster.gpus else 0,
            on_epoch=_RetrainProgress(lambda done: advance(round(done), round(total)), weights),
            remote=site.remote / CHECKPOINTS if site.remote else None,
            shipment=site.shipment,
        )
    for job in jobs:
        draw_curves(job, source)


def _weights(jobs: Sequence[RetrainJob], layout: Layout) -> dict[int, float]:
    """What an epoch at each image size counts in the progress: 1 at the smallest."""
    sizes = sizes_of(jobs)
    return {size: layout.seconds_at(size) / layout.seconds_at(sizes[0]) for size in sizes}


class _RetrainProgress:
    """Says how each training ends, and what was wrong with its checkpoint; counts epochs by what they cost."""

    def __init__(self, advance: Callable[[float], None], weights: Mapping[int, float]) -> None:
        self.advance, self.weights = advance, weights
        self.done: dict[str, int] = {}
        self.costs: dict[str, float] = {}

    def __call__(self, job: RetrainJob, row: EpochRow) -> None:
        if row["note"] and job.label not in self.done:
            say(f"  {job.label}: {row['note']}")
        self.done[job.label], self.costs[job.label] = row["epoch"], self.weights[job.config.image_size]
        if row["stop"]:
            shown = job.config.monitored.show(row["objective"])
            tell(f"  {job.label}: {row['epoch']} epochs ({row['stop']}), {shown}")
            self.done[job.label] = job.config.epochs
        self.advance(sum(epochs * self.costs[label] for label, epochs in self.done.items()))


def close(
    place: Place,
    settings: SearchSettings,
    jobs: Sequence[RetrainJob],
    *,
    resume: str,
    following: str | None = None,
    seconds: float | None = None,
) -> None:
    """The closing table, where everything lies, and what to type next.

    Args:
        resume: the command that goes on with this; following: the verb to type next.
        seconds: that the whole took, where that is worth a line.
    """
    selection = chosen(place.folder, settings) if settings.kind == "search" else None
    averages = member_lists(settings.checkpoints, list(dict.fromkeys(job.stem for job in jobs)))
    table, warnings = closing_table(jobs, settings.source, averages)
    write_summary(place.folder, jobs, settings, selection, warnings=warnings, averages=averages)
    say()
    show(table)
    said = selection_lines(selection, settings.spec(place.folder)) if selection else []
    of_averages = [line for item in averages for line in item.lines()]
    for line in [*said, *of_averages, *split_notes(settings)]:
        say(line)
    for line in warnings:
        warn(line)
    say(f"\nCheckpoints: {settings.checkpoints}")
    say(f"Results:     {place.folder}")
    say(f"Resume:      {resume}")
    if following is not None:
        say(f"Next:        {place.command(following)}")
    say("Searches:    python -m tune_btxrd list")
    if seconds is not None:
        say(f"Took {minutes(seconds)}.")


def chosen(folder: Path, settings: SearchSettings) -> Selection:
    """The winner of a search by its selection rule. Raises: ResultError."""
    return select(read_search(folder), settings.spec(folder), val_share=settings.val_ratio)


def split_notes(settings: SearchSettings) -> list[str]:
    """Splits that the dataset cannot have, and what the searched split means for the others."""
    if settings.flags.folds is not None and settings.kind == "search":
        return ["every fold: config chosen on these images"]
    lines = [f"split {name} skipped: {reason}" for name, reason in settings.flags.skipped.items()]
    leaks = settings.flags.leak.items()
    return lines + [f"{name}: config chosen on {count} images of this test part" for name, count in leaks if count]


def _configs(settings: SearchSettings, folder: Path) -> tuple[TrainConfig, TrainConfig | None]:
    if settings.only_config is not None:
        return settings.only_config, None
    winner = chosen(folder, settings).winner
    return TrainConfig.from_dict(winner.config), settings.spec(folder).hand_made


def _chosen_splits(known: Mapping[str, str], names: Sequence[str] | None) -> Mapping[str, str]:
    if names is None:
        return known
    names = [asked_name(name) for name in names]
    if unknown := [name for name in names if name not in known]:
        raise ResultError(
            f"A split to retrain must be one of {', '.join(known)}, but got {unknown[0]!r}: "
            "the search left out those test parts."
        )
    return {name: known[name] for name in names}
