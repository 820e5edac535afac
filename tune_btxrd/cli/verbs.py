"""Each verb as a function: typed flags -> one call of the Python API -> what is printed.

Imports are local, so each verb loads only what it needs.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tune_btxrd.cli import flags as read
from tune_btxrd.errors import ConfigError, DataError, ResultError

if TYPE_CHECKING:
    from tune_btxrd.inference.predict import Predictions
    from tune_btxrd.labels.records import Mode


TRAINING = ("run", "search", "retrain", "train")
TELLING = (*TRAINING, "submit", "watch", "label")  # say themselves how to go on after Ctrl-C


def run_verb(flags: argparse.Namespace) -> None:
    """Runs the verb that was typed, as talkative as was asked."""
    asked = time.time()
    from tune_btxrd.console import NORMAL, QUIET, VERBOSE, aside, set_verbosity
    from tune_btxrd.distributed.interrupts import stoppable

    given = vars(flags)
    set_verbosity(QUIET if given.get("quiet") else VERBOSE if given.get("verbose") else NORMAL)
    with ExitStack() as around:
        around.enter_context(aside(wanted=given.get("json", False)))
        if flags.verb not in TELLING:
            around.enter_context(stoppable(lambda: "Interrupted; files that are there are whole. Type the same again."))
        if flags.verb in TRAINING:
            from tune_btxrd.distributed.forks import warm

            flags.asked = asked
            around.enter_context(warm())  # imports what training needs while the verb reads and checks
        VERBS[flags.verb](flags)


def _prepare(flags: argparse.Namespace) -> None:
    from tune_btxrd.config import checked
    from tune_btxrd.console import say
    from tune_btxrd.files import require_writable
    from tune_btxrd.pipeline.centers import asked_folds
    from tune_btxrd.pipeline.prepare import prepare, prepared_folder, write_prepared
    from tune_btxrd.pipeline.start import space_sizes

    for flag, value in (("--image-size", flags.image_size), ("--space", flags.space)):
        if flags.table_only and value is not None:
            raise ConfigError(f"--table-only decodes no image, but {flag} says the side of decoded ones: leave one out.")
    side = None if flags.image_size is None else checked("image_size", flags.image_size)
    data = read.read_data(flags)
    sizes: tuple[int, ...] = ()
    if flags.space is not None:
        side, sizes = space_sizes(flags.space, data, side)
    require_writable(data.cache_folder, "choose another folder with --cache")  # what it finds goes there
    splits, folds = asked_folds(read.read_splits(flags), None)
    prepared = prepare(data, image_size=side, image_sizes=sizes, splits=splits, folds=folds, searches=False)
    folder = prepared_folder(prepared)
    write_prepared(prepared, folder)
    say(f"all findings: {folder / 'audit.json'}, {folder / 'tables' / 'audit.csv'}; splits: {folder / 'splits'}")


def _run(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import run

    run(
        read.read_data(flags),
        space=read.read_space(flags),
        name=flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        split=flags.split,
        splits=read.read_splits(flags),
        folds=flags.folds,
        nested=flags.nested,
        seeds=read.read_seeds(flags),
        ensemble=flags.ensemble,
        soup=flags.soup,
        compute=read.read_compute(flags),
        time_budget=read.read_seconds(flags.time_budget),
        epoch_budget=flags.epoch_budget,
        trackers=read.read_trackers(flags),
        resume=flags.resume,
        from_search=flags.from_search or (),
        score=not flags.no_score,
        asked=flags.asked,
    )


def _search(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import search

    search(
        read.read_data(flags),
        space=read.read_space(flags),
        name=flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        split=flags.split,
        splits=read.read_splits(flags),
        compute=read.read_compute(flags),
        time_budget=read.read_seconds(flags.time_budget),
        epoch_budget=flags.epoch_budget,
        trackers=read.read_trackers(flags),
        resume=flags.resume,
        from_search=flags.from_search or (),
        asked=flags.asked,
    )


def _submit(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.submit import submit

    submit(flags)


def _retrain(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import retrain

    retrain(
        flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        data=flags.data,
        cache=flags.cache,
        splits=read.read_splits(flags),
        folds=flags.folds,
        seeds=read.read_seeds(flags),
        ensemble=flags.ensemble,
        soup=flags.soup,
        compute=read.read_compute(flags),
    )


def _train(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import train
    from tune_btxrd.search.space.yaml_text import read_yaml

    train(
        read.read_data(flags),
        config=read_yaml(flags.config, "--config") if flags.config else {},
        space=read.read_space(flags),
        name=flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        splits=read.read_splits(flags),
        folds=flags.folds,
        seeds=read.read_seeds(flags),
        ensemble=flags.ensemble,
        soup=flags.soup,
        compute=read.read_compute(flags),
        resume=flags.resume,
        score=not flags.no_score,
    )


def _export(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say
    from tune_btxrd.pipeline.finished import export

    made = export(
        flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        data=flags.data,
        cache=flags.cache,
        push_to_hub=flags.push_to_hub,
        public=flags.public,
    )
    for item in made:
        say(f"{item.split}: {item.folder}")


def _evaluate(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.show import evaluation_document, show_evaluation
    from tune_btxrd.console import answer, say
    from tune_btxrd.pipeline.finished import evaluate
    from tune_btxrd.pipeline.place import Place

    found = evaluate(
        flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        data=flags.data,
        cache=flags.cache,
        splits=read.read_splits(flags),
        device=flags.device or "auto",
        agreed=_announce if flags.yes else _ask,
    )
    if flags.json:
        answer(evaluation_document(found))
    else:
        show_evaluation(found)
        place = Place(name=flags.name, storage=read.read_storage(flags), checkpoints=flags.checkpoints)
        say(f"The page of the search shows these scores once it is written again: {place.command('report')}")
    if failures := [failure for item in found.splits for failure in item.failures]:
        raise ResultError(f"Scores were taken and stand above, but {len(failures)} thing(s) failed: {'; '.join(failures)}")


def _announce(splits: Sequence[str]) -> None:
    from tune_btxrd.console import say

    say(f"This opens the test part of {' and '.join(splits)}. Every opening is written to evaluation/test_log.json.")


def _ask(splits: Sequence[str]) -> None:
    """Raises: ConfigError where nobody says yes."""
    from tune_btxrd.console import ask

    _announce(splits)
    if not sys.stdin.isatty():
        raise ConfigError("Opening a test part needs a yes, but there is no terminal to ask at: add --yes.")
    if ask("Open it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("Opening a test part needs a yes, but the answer was no: nothing was opened.")


def _explain(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say
    from tune_btxrd.pipeline.finished import explain

    found = explain(
        flags.name,
        storage=read.read_storage(flags),
        checkpoints=flags.checkpoints,
        data=flags.data,
        cache=flags.cache,
        splits=read.read_splits(flags),
        device=flags.device or "auto",
    )
    for item in found:
        say(f"Validation part of {item.split}: {item.sheet}")
        say(f"  {item.pointing or 'no lesion is annotated, so nothing says where a peak should lie'}")
        for note in item.notes:
            say(f"  {note}")


def _predict(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.show import show_predictions
    from tune_btxrd.console import aside, warn
    from tune_btxrd.files import require_writable_file
    from tune_btxrd.pipeline.predict_images import predict_images

    form = "json" if flags.json else flags.format or "table"
    if flags.output is not None:
        require_writable_file(flags.output, "choose another --output")

    def told(found: "Predictions") -> None:
        show_predictions(found, form=form, output=flags.output)

    with aside(wanted=form != "table" and flags.output is None):
        found = predict_images(
            flags.checkpoint,
            flags.images,
            device=flags.device or "auto",
            overlays=flags.overlays,
            rank_uncertain=flags.rank_uncertain,
            told=told,
        )
        for note in found.notes:
            warn(note)
        for file, reason in found.broken:
            warn(f"{file}: {reason}")
    if found.broken:
        count = len(found.broken)
        raise DataError(f"Every image must be readable, but {count} of {count + len(found.files)} are not.")


def _space(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.show import space_document
    from tune_btxrd.console import answer, say
    from tune_btxrd.pipeline.together import check_models
    from tune_btxrd.search.space.describe import explain
    from tune_btxrd.search.space.spec import SearchSpec

    spec = SearchSpec.load(flags.file)
    check_models(spec)
    if flags.json:
        answer(space_document(spec))
        return
    for line in explain(spec):
        say(line)


def _trial(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say
    from tune_btxrd.pipeline.finished import trial

    found = trial(flags.name, flags.number, storage=read.read_storage(flags), data=flags.data, cache=flags.cache)
    say(f"Trial {flags.number}: all numbers of {len(found.rows)} epoch(s) came out exactly as recorded.")


def _report(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer
    from tune_btxrd.pipeline.finished import report

    page = report(flags.name, storage=read.read_storage(flags), checkpoints=flags.checkpoints)
    if flags.json:
        parts = {"figures": page.parent / "figures", "tables": page.parent / "tables"}
        files = {name: sorted(map(str, folder.iterdir())) for name, folder in parts.items() if folder.is_dir()}
        answer(json.dumps({"name": flags.name, "report": str(page), **files}, indent=1))


def _watch(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.watch import watch
    from tune_btxrd.pipeline.place import Place

    watch(Place(name=flags.name, storage=read.read_storage(flags)), dashboard=flags.dashboard)


def _label(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.label import label, read_keys

    chosen: dict[Mode, bool] = {"holdout": flags.holdout, "review": flags.review, "dispute": flags.disagreements}
    label(
        flags.store,
        mode=next((mode for mode, wanted in chosen.items() if wanted), "label"),
        annotator=flags.annotator,
        port=flags.port,
        single_key=flags.single_key,
        keys=read_keys(flags.key),
    )


def _list(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.list import list_searches, searches_document
    from tune_btxrd.console import answer

    storage = read.read_storage(flags)
    if flags.json:
        answer(searches_document(storage))
    else:
        list_searches(storage)


def _labels(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.labels import run

    run(flags)


def _completion(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.completion import completion_script
    from tune_btxrd.console import answer

    answer(completion_script(flags.shell))


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "submit": _submit,
    "prepare": _prepare,
    "search": _search,
    "retrain": _retrain,
    "train": _train,
    "evaluate": _evaluate,
    "explain": _explain,
    "export": _export,
    "predict": _predict,
    "trial": _trial,
    "space": _space,
    "report": _report,
    "watch": _watch,
    "label": _label,
    "list": _list,
    "labels": _labels,
    "completion": _completion,
}
