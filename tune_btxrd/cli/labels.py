"""`labels init|add|import|export|status|score STORE`: flags, and what is printed of a label store."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune_btxrd.cli.flags import Parser, add_device, add_json, add_storage, add_talk, read_storage
from tune_btxrd.errors import ConfigError, shell_word

STRATEGY_NAMES = ("random", "uncertain", "badge", "typiclust")  # `labels/acquisition.py` loads slowly; a test compares

if TYPE_CHECKING:
    from tune_btxrd.labels.add import Added
    from tune_btxrd.labels.grouping import Grouping
    from tune_btxrd.labels.records import Label
    from tune_btxrd.labels.status import Status
    from tune_btxrd.labels.store import LabelStore
    from tune_btxrd.pipeline.scorers import Backbone


def declare(verb: Parser) -> None:
    """The verbs of `labels`, each with its flags."""
    verbs = verb.add_subparsers(
        dest="labels_verb", required=True, metavar="VERB", parser_class=Parser, help="what is done with the store"
    )
    for name, (meaning, add, _) in VERBS.items():
        one = verbs.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        one.add_argument("store", type=Path, metavar="STORE", help="the label store, a .db file")
        add(one)
        add_json(one)
        add_talk(one)


def run(flags: argparse.Namespace) -> None:
    """Runs the verb of `labels` that was typed."""
    VERBS[flags.labels_verb][2](flags)


def _add_init(verb: Parser) -> None:
    verb.add_argument("--labels", metavar="A,B,C", help="names of the labels or classes, comma-separated")
    verb.add_argument("--label", action="append", metavar="NAME", help="one label; may be repeated; for names with a comma")
    verb.add_argument(
        "--task", choices=("multilabel", "multiclass"), help="yes or no per label, or one class (default: multilabel)"
    )
    verb.add_argument("--key", action="append", metavar="NAME=K", help="key of a label on the page; may be repeated")
    verb.add_argument("--holdout-share", type=float, metavar="P", help="groups that are never trained on (default: 0.10)")
    verb.add_argument("--double-share", type=float, metavar="P", help="images that two annotators see (default: 0.05)")


def _init(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say
    from tune_btxrd.labels.store import LabelStore

    names = _names(flags)
    given = {"holdout_share": flags.holdout_share, "double_share": flags.double_share, "task": flags.task}
    said = {name: value for name, value in given.items() if value is not None}
    with LabelStore.create(flags.store, names, keys=_keys(flags.key or ()), **said) as store:
        if flags.json:
            _answer_labels(store)
            return
        say(f"{store.path}: {store.task}, {_shown_labels(store.labels)}; hold-out share {store.holdout_share:g}.")
        say(f"Next: python -m tune_btxrd labels add {shell_word(str(flags.store))} FOLDER")


def _add_extend(verb: Parser) -> None:
    verb.add_argument("--labels", metavar="A,B,C", help="names of further labels or classes, comma-separated")
    verb.add_argument("--label", action="append", metavar="NAME", help="one label; may be repeated; for names with a comma")
    verb.add_argument("--key", action="append", metavar="NAME=K", help="key of a new label on the page; may be repeated")


def _extend(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say

    names = _names(flags)
    with _open(flags.store) as store:
        store.add_labels(names, keys=_keys(flags.key or ()))
        if flags.json:
            _answer_labels(store)
            return
        added = [label for label in store.labels if label.name in names]
        say(f"{store.path}: {_shown_labels(added)} added after event {store.last_event:,}.")
        if store.task == "multilabel":
            left = sum(store.progress("", mode=mode).left for mode in ("label", "holdout"))
            say(f"Every image is asked for again ({left:,} now): what was answered before stays and stands on the page.")
        else:
            say("An image that has a class keeps it.")


def _names(flags: argparse.Namespace) -> list[str]:
    """The labels that are named. Raises: ConfigError where none is."""
    names = [part.strip() for part in (flags.labels or "").split(",") if part.strip()] + (flags.label or [])
    if not names:
        raise ConfigError("A label must be named, but none is: --labels A,B,C.")
    return names


def _shown_labels(labels: "Sequence[Label]") -> str:
    return ", ".join(f"{label.name} (key {label.key})" for label in labels)


def _answer_labels(store: "LabelStore") -> None:
    from tune_btxrd.console import answer

    labels = [{"label": label.name, "key": label.key} for label in store.labels]
    answer(json.dumps({"store": str(store.path), "task": store.task, "labels": labels}, ensure_ascii=False, indent=1))


def _keys(texts: "list[str] | tuple[()]") -> dict[str, str]:
    keys = {}
    for text in texts:
        name, sign, key = text.rpartition("=")
        if not sign or not name:
            raise ConfigError(f"--key must read NAME=K, but got {text!r}.")
        keys[name] = key
    return keys


def _add_add(verb: Parser) -> None:
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="images, at any depth")
    how = verb.add_mutually_exclusive_group()
    how.add_argument(
        "--group-table", type=Path, metavar="FILE", help="table with path or image_id, and the group of each image"
    )
    how.add_argument("--group-pattern", metavar="REGEX", help="finds the group in an image's path, e.g. 'patient(\\d+)'")
    verb.add_argument("--group-column", metavar="NAME", help="column of the table (default: group)")


def _add(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer, progress, warn
    from tune_btxrd.labels.add import add_folder, require_some_read
    from tune_btxrd.labels.status import holdout_groups, small_holdout

    if flags.group_column is not None and flags.group_table is None:
        raise ConfigError("--group-column names a column of --group-table, but there is no table: add one.")
    with _open(flags.store) as store:
        grouping = _grouping(flags)
        with progress("added") as advance:
            added = add_folder(store, flags.folder, grouping=grouping, progress=advance)
        if flags.json:
            answer(json.dumps(dataclasses.asdict(added), ensure_ascii=False, indent=1))
        else:
            _say_added(added, flags.folder)
            for line in small_holdout(holdout_groups(store)) if added.new and store.holdout_share else ():
                warn(line)
    require_some_read(added, flags.folder)


def _say_added(added: "Added", folder: Path) -> None:
    from tune_btxrd.console import say, warn
    from tune_btxrd.data.readers.names import examples

    say(f"{added.files:,} image files below {folder}: {added.new:,} new ({added.holdout:,} in the hold-out).")
    told = {
        "found at another path than before": added.moved,
        "the same bytes as another that is there: one image": added.copies,
        "not named by the table: not added": added.unnamed,
    }
    for text, count in told.items():
        if count:
            say(f"  {count:,} {text}")
    torn = f" {added.torn:,} of them lie across the hold-out." if added.torn else ""
    warned = {
        "image(s) that were here are gone: restore them, or add the folder they lie in now.": added.missing,
        "image(s) keep the group they were first added with, although another is said now.": added.regrouped,
        f"file(s) are an image of another group ({examples(added.twins)}): probably one patient under two names.{torn} The "
        "image keeps its first group.": len(added.twins),
        f"of {added.files:,} files have the name of an image but cannot be read as one ({examples(added.broken)}): left "
        "out. Mend them and add the folder again, or remove them.": len(added.broken),
    }
    for text, count in warned.items():
        if count:
            warn(f"{count:,} {text}")


def _grouping(flags: argparse.Namespace) -> "Grouping | None":
    from tune_btxrd.labels.grouping import by_pattern, by_table

    if flags.group_table is not None:
        return by_table(flags.group_table, flags.group_column or "group", flags.folder.resolve())
    return by_pattern(flags.group_pattern, flags.folder.resolve()) if flags.group_pattern is not None else None


def _add_import(verb: Parser) -> None:
    verb.add_argument("table", type=Path, metavar="TABLE", help="CSV or Excel file with label:NAME columns, or label")
    verb.add_argument("--annotator", metavar="NAME", help="whose answers they are (default: import)")


def _import(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer, say
    from tune_btxrd.labels.exchange import import_labels
    from tune_btxrd.labels.records import IMPORTED

    with _open(flags.store) as store:
        found = import_labels(store, flags.table, annotator=IMPORTED if flags.annotator is None else flags.annotator)
    if flags.json:
        answer(json.dumps(dataclasses.asdict(found), indent=1))
        return
    say(f"{found.rows:,} rows: {found.recorded:,} images recorded, {found.unchanged:,} as before, {found.blank:,} blank.")


def _add_export(verb: Parser) -> None:
    verb.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="where manifest.csv goes (default: the folder above all images)",
    )


def _export(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer, say, warn
    from tune_btxrd.labels.exchange import export_labels

    with _open(flags.store, read_only=True) as store:
        found = export_labels(store, flags.folder)
    if flags.json:
        kept = found.kept and str(found.kept)
        answer(json.dumps({"file": str(found.file), "images": found.images, "event": found.event, "kept": kept}, indent=1))
        return
    if found.kept is not None:
        warn(f"{found.file} was there and said something else: kept as {found.kept.name}.")
    say(f"{found.file}: {found.images:,} labelled images as of event {found.event}; the hold-out is its test part.")


def _add_status(verb: Parser) -> None:
    verb.add_argument(
        "--picture", type=Path, metavar="FILE", help="PNG of the queue against random, score by images labelled"
    )


def _status(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer, make_table, say, show
    from tune_btxrd.labels.arms import compare_arms, point_rows
    from tune_btxrd.labels.status import status

    with _open(flags.store, read_only=True) as store:
        found, arms = status(store), compare_arms(store)
    if flags.json:
        answer(json.dumps({**found.to_dict(), "arms": dataclasses.asdict(arms)}, ensure_ascii=False, indent=1))
    else:
        show_status(found)
        if arms.points:
            columns = ("images of each arm", "ranked", "random", "difference")
            show(make_table("Macro-AUC of a light head, 95 % intervals over groups", columns, point_rows(arms.points)))
        say(arms.verdict)
    if flags.picture is not None:  # last, so that a picture which cannot be made yet costs nothing of the rest
        from tune_btxrd.report.arms_figure import draw_arms

        draw_arms(arms, flags.picture)


def show_status(found: "Status") -> None:
    """A store for people: images, labels, agreement, annotators, looks at the hold-out."""
    from tune_btxrd.console import make_table, say, show, warn
    from tune_btxrd.labels.status import small_holdout

    left = f"{found.to_label:,} to label, and {found.holdout_to_label:,} of the {found.holdout:,} in the hold-out"
    say(f"{found.store}: {found.task}, {found.images:,} images of {found.groups:,} groups, event {found.event:,}; {left}.")
    rows = [
        (item.label, item.key, item.yes, item.no, item.unknown, item.disputed, f"{item.holdout_yes}/{item.holdout_no}")
        for item in found.labels
    ]
    show(make_table("Labels", ("label", "key", "yes", "no", "unknown", "disputed", "hold-out yes/no"), rows))
    if found.agreement:
        agreed = [
            (
                item.label,
                " and ".join(item.annotators) if item.annotators else "all",
                item.images,
                f"{item.agree / item.images:.3f}",
                "-" if item.kappa is None else f"{item.kappa:.3f}",
            )
            for item in found.agreement
        ]
        show(make_table("Agreement on images read twice", ("label", "annotators", "images", "agree", "kappa"), agreed))
    if found.annotators:
        people = [
            (
                *(item.name, item.labelled, item.unsure, item.bad, item.skipped, item.undone, item.today),
                "-" if item.median_seconds is None else f"{item.median_seconds:.1f} s",
            )
            for item in found.annotators
        ]
        columns = ("annotator", "labelled", "unsure", "bad", "skipped", "undone", "today (UTC)", "median pace")
        show(make_table("Annotators: numbers of acts", columns, people))
    if found.saw_model:
        say(f"{found.saw_model:,} of {found.saw_model_known:,} answers came after a look at the model's opinion.")
    say(f"Predictions: {found.model or 'none'}; ranked by: {found.acquisition or 'nothing, so images come at random'}.")
    for count, what in ((found.disputed, "annotators differ on"), (found.bad, "called bad"), (found.missing, "missing")):
        if count:
            warn(f"{count:,} image(s): {what}.")
    for line in small_holdout(found.holdout_groups) if found.images and found.holdout_share else ():
        warn(line)
    say(f"The hold-out has been opened {len(found.openings)} time(s).")
    for opening in found.openings:
        say(
            f"  {opening.time}: {opening.search}, split {opening.split}, {opening.images} images as of event {opening.event}"
        )


def _add_score(verb: Parser) -> None:
    verb.add_argument("name", nargs="?", metavar="NAME", help="search or training whose first split's winner scores")
    verb.add_argument("--checkpoint", type=Path, metavar="FILE", help="this model instead: .pt file or exported folder")
    verb.add_argument("--strategy", metavar="S", help=f"{', '.join(STRATEGY_NAMES)}, or several joined by +")
    verb.add_argument("--head", type=int, metavar="N", help="images that are ranked; those behind come at random")
    group = verb.add_argument_group("before there is a model: features of a pretrained backbone")
    group.add_argument("--backbone", metavar="NAME", help="timm model name")
    group.add_argument("--weights", type=Path, metavar="FILE", help="its weights, or a folder with a file per backbone")
    group.add_argument("--image-size", type=int, metavar="PX", help="side of its images")
    add_storage(verb)
    add_device(verb)


def _score(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import answer
    from tune_btxrd.pipeline.place import Place
    from tune_btxrd.pipeline.score_store import HEAD, say_scored, score_store, score_trained

    if flags.name is not None and flags.checkpoint is not None:
        raise ConfigError("One model scores, but NAME and --checkpoint were given: leave one out.")
    if flags.name is None and (flags.storage is not None or flags.checkpoints is not None):
        raise ConfigError("--storage and --checkpoints say where NAME lies, but there is no NAME: add it.")
    backbone = _backbone(flags)
    how = {"strategy": flags.strategy, "head": HEAD if flags.head is None else flags.head}
    if flags.name is not None:
        place = Place(name=flags.name, storage=read_storage(flags), checkpoints=flags.checkpoints)
        found = score_trained(place.settings(), flags.store, device=flags.device, **how)
    else:
        device = flags.device or "auto"
        found = score_store(flags.store, checkpoint=flags.checkpoint, backbone=backbone, device=device, **how)
    if flags.json:
        answer(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=1))
    else:
        say_scored(found, flags.store)


def _backbone(flags: argparse.Namespace) -> "Backbone | None":
    """The backbone that was asked for; None where nothing was said of one."""
    given = {"name": flags.backbone, "weights": flags.weights, "image_size": flags.image_size}
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return None
    if flags.name is not None or flags.checkpoint is not None:
        raise ConfigError("--backbone, --weights and --image-size stand in for a model, but one is named: leave them away.")
    from tune_btxrd.pipeline.scorers import Backbone

    return Backbone(**said)


def _open(path: Path, *, read_only: bool = False) -> "LabelStore":
    from tune_btxrd.labels.store import LabelStore

    return LabelStore(path, read_only=read_only)


VERBS: dict[str, tuple[str, Callable[[Parser], None], Callable[[argparse.Namespace], None]]] = {
    "init": ("make an empty label store", _add_init, _init),
    "extend": ("add labels to a store that has images and answers", _add_extend, _extend),
    "add": ("add the images of a folder; again: only what is new or has moved", _add_add, _add),
    "import": ("record the labels of a table", _add_import, _import),
    "export": ("write the labels as manifest.csv", _add_export, _export),
    "score": ("score the images with a model, and rank those whose label would help most", _add_score, _score),
    "status": (
        "tell how labelling stands: counts, agreement, pace, looks at the hold-out, queue against random",
        _add_status,
        _status,
    ),
}
