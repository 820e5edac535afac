"""The verbs `evaluate`, `explain`, `predict` and `trial` at the terminal: what they ask, say and print."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_btxrd.console import aside, make_table, progress, say, show, tell, warn
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.pipeline.prepare import check_same_data, duplicates_of, read_manifest
from tune_btxrd.pipeline.start import RunRequest, source_of
from tune_btxrd.results.search_json import Settings
from tune_btxrd.training.source import Source

if TYPE_CHECKING:
    from rich.table import Table

    from tune_btxrd.inference.open_model import Predictor
    from tune_btxrd.inference.predict import Predictions


def evaluate(request: RunRequest, *, yes: bool) -> None:
    """Scores winner and hand-made config on the test part of each split, once the user has agreed to open them.

    Raises:
        ConfigError: nobody agreed.
        ResultError, DataError: see `evaluate.evaluate_search`.
    """
    from tune_btxrd.evaluation.evaluate import evaluate_search, summary_rows

    settings, source, asked, manifest = _retrained(request)
    pairs = duplicates_of(asked, manifest)
    _ask(request.splits or tuple(settings.splits), yes=yes)
    with progress("scored") as advance:
        found = evaluate_search(
            settings.checkpoints,
            results=request.folder,
            manifest=manifest,
            pairs=pairs,
            source=source,
            splits=request.splits,
            device=request.device,
            progress=advance,
        )
    for item in found.splits:
        rows = summary_rows(item, found.class_names, found.positive_class)
        columns = ("metric", "winner", "hand-made", "difference")[: len(rows[0])]
        show(make_table(f"Test part of {item.split}, opened {item.opened} time(s); 95 % intervals", columns, rows))
        for note in item.notes:
            say(f"  {note}")
        say(f"  tables and pictures: {item.folder}")


def explain(request: RunRequest) -> None:
    """Where the winner of each split looks on its validation part: a contact sheet, and the pointing game where lesions
    are annotated. No test part is opened.

    Raises:
        ResultError, DataError: see `explain.explain_search`.
    """
    from tune_btxrd.evaluation.explain import explain_search

    settings, source, _, manifest = _retrained(request)
    with progress("explained") as advance:
        found = explain_search(
            settings.checkpoints,
            results=request.folder,
            manifest=manifest,
            source=source,
            splits=request.splits,
            device=request.device,
            progress=advance,
        )
    for item in found:
        say(f"Validation part of {item.split}: {item.sheet}")
        say(f"  {item.pointing or 'no lesion is annotated, so nothing says where a peak should lie'}")
        for note in item.notes:
            say(f"  {note}")


def _retrained(request: RunRequest) -> tuple[Settings, Source, DataRequest, Manifest]:
    """A search with what it was made from, wherever both lie now. Raises: ResultError, DataError (another dataset)."""
    settings = Settings.load(request.folder).moved(request.checkpoints)
    asked = dataclasses.replace(settings.request, data=request.data.data) if request.data_given else settings.request
    source, manifest = source_of(settings, request), read_manifest(asked)
    check_same_data(manifest, settings.dataset["sha256"])
    return settings, source, asked, manifest


def run_again(folder: Path, label: str) -> None:
    """One trial of a search again, alone, and whether the numbers are the same.

    Raises:
        ResultError: no such trial, or its numbers came out differently.
    """
    from tune_btxrd.distributed.reproduce import reproduce, session_threads

    settings = Settings.load(folder)

    def heard(row: Mapping[str, Any]) -> None:
        say(f"  epoch {row['epoch']}: val loss {row['val_loss']:.6f}")

    threads = session_threads(folder, label)
    found = reproduce(
        folder, label, settings.source, split=settings.searched, device=settings.device, threads=threads, heard=heard
    )
    if not found.is_equal:
        epoch, name, old, new = found.differences[0]
        raise ResultError(
            f"Trial {label} should give the same numbers again, but {name} of epoch {epoch} is {new} instead of {old}: "
            f"they are equal on the same CPU, {threads} thread(s) and the versions in search.json."
        )
    say(f"Trial {label}: all numbers of {len(found.rows)} epoch(s) came out exactly as recorded.")


def _ask(splits: Sequence[str], *, yes: bool) -> None:
    say(f"This opens the test part of {' and '.join(splits)}. Every opening is written to evaluation/test_log.json.")
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("Opening a test part needs a yes, but there is no terminal to ask at: add --yes.")
    if input("Open it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("Opening a test part needs a yes, but the answer was no: nothing was opened.")


def predict(
    checkpoint: Path,
    images: Sequence[Path],
    *,
    device: str,
    form: str,
    output: Path | None,
    overlays: Path | None,
    rank_uncertain: Path | None,
) -> None:
    """Class probabilities for files and folders, as a table, CSV or JSON; `overlays`: a folder for Grad-CAM pictures.

    Raises:
        ResultError: the checkpoint cannot be used, or is ONNX and overlays are wanted; no image was read then.
        DataError: some files could not be read; all others were predicted and printed before.
    """
    from tune_btxrd.files import write_whole
    from tune_btxrd.inference.open_model import open_model
    from tune_btxrd.inference.predict import image_files, predict_files
    from tune_btxrd.inference.predict import rank_uncertain as ranked

    files = image_files(images)
    predictor = open_model(checkpoint, device=device)
    if overlays is not None:
        from tune_btxrd.evaluation.explain import network

        network(predictor)
    with aside(wanted=form != "table" and output is None):
        with progress("predicted") as advance:
            found = predict_files(predictor, files, progress=advance)
        if rank_uncertain is not None:
            write_whole(rank_uncertain, ranked(found).to_csv(index=False))
        if form == "table" and output is None:
            show(_prediction_table(found))
        else:
            text = found.to_json() if form == "json" else found.to_csv()
            print(text) if output is None else write_whole(output, text)
        if overlays is not None:
            _write_overlays(predictor, found.files, overlays)
        for note in found.notes:
            warn(note)
        for file, reason in found.broken:
            warn(f"{file}: {reason}")
    if found.broken:
        raise DataError(
            f"Every image must be readable, but {len(found.broken)} of {len(found.broken) + len(found.files)} are not."
        )


def _write_overlays(predictor: "Predictor", files: Sequence[Path], folder: Path) -> None:
    from tune_btxrd.evaluation.explain import explain_files

    with progress("overlaid") as advance:
        written = explain_files(predictor, files, folder, progress=advance)
    tell(f"{len(written)} overlay(s) in {folder}")


def _prediction_table(found: "Predictions") -> "Table":
    """What fits a terminal: file, class, the probability per class that decided it, calls as yes or no."""
    from tune_btxrd.inference.predict import RULE

    names = found.info.class_names
    values = found.probabilities
    table = found.table
    calls = [str(name) for name in table if " at " in str(name)]
    columns_of = {name: table[name].tolist() for name in ("predicted", *calls)}
    rows = [
        (
            file.name,
            columns_of["predicted"][index],
            *(f"{value:.3f}" for value in values[index]),
            *("yes" if columns_of[call][index] else "no" for call in calls),
        )
        for index, file in enumerate(found.files)
    ]
    columns = ("file", "predicted", *(f"probability {name}" for name in names), *calls)
    return make_table(f"{len(rows)} image(s), {found.info.backbone}; predicted: {RULE}", columns, rows)
