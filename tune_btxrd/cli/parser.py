"""The command line: `python -m tune_btxrd VERB`. Which verb takes which flags; `verbs.py` does the work."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tune_btxrd.cli import flags, labels
from tune_btxrd.cli.flags import Parser
from tune_btxrd.version import __version__

SHELLS = ("bash", "zsh", "fish", "tcsh")


def build_parser() -> Parser:
    """Every verb with its flags."""
    parser = Parser(
        prog="tune-btxrd",
        description="From a folder of radiographs to the best checkpoint per split, on a laptop or on a Ray cluster.",
        epilog="Without --data every verb works on the phantom, a synthetic dataset that the project draws itself.",
    )
    parser.add_argument("--version", action="version", version=f"tune-btxrd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for name, (meaning, declare) in VERBS.items():
        verb = verbs.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        declare(verb)
    return parser


def parse_words(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The verb that was typed and its flags. Raises: ConfigError; SystemExit after --help and --version."""
    return flags.parse(build_parser(), words)


def _search(verb: Parser) -> None:
    flags.add_data(verb)
    flags.add_storage(verb)
    flags.add_compute(verb)
    flags.add_training(verb)
    flags.add_search(verb)
    flags.add_new_name(verb)
    flags.add_talk(verb, verbose=True)


def _run(verb: Parser) -> None:
    _search(verb)
    flags.add_seeds(verb)
    flags.add_score(verb)
    flags.add_folds(verb)
    flags.add_nested(verb)


def _submit(verb: Parser) -> None:
    _run(verb)
    group = verb.add_argument_group("job")
    group.add_argument("--packages", action="store_true", help="install requirements.txt on the nodes first")
    group.add_argument("--detach", action="store_true", help="send the job and leave, without following its log")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--status", metavar="JOB", help="tell how a job stands")
    which.add_argument("--log", metavar="JOB", help="follow a job's log")
    which.add_argument("--stop", metavar="JOB", help="stop a job; its state is saved")


def _prepare(verb: Parser) -> None:
    flags.add_data(verb, table_only=True)
    flags.add_splits(verb)
    verb.add_argument("--image-size", type=int, metavar="PX", help="side of the decoded images")
    verb.add_argument(
        "--space", type=Path, metavar="FILE", help="search space: decode at each image_size that it searches (default: one)"
    )
    verb.add_argument("--seed", type=int, help="decides the splits")
    flags.add_talk(verb)


def _retrain(verb: Parser) -> None:
    flags.add_name(verb)
    flags.add_moved_data(verb)
    flags.add_storage(verb)
    flags.add_compute(verb)
    flags.add_splits(verb, "splits of the search (default: all)")
    flags.add_seeds(verb)
    flags.add_folds(verb)
    flags.add_talk(verb, verbose=True)


def _train(verb: Parser) -> None:
    flags.add_data(verb)
    flags.add_storage(verb)
    flags.add_compute(verb)
    flags.add_training(verb)
    flags.add_splits(verb)
    flags.add_seeds(verb)
    flags.add_score(verb)
    flags.add_folds(verb)
    verb.add_argument("--config", type=Path, metavar="FILE", help="YAML of hyperparameters (default: the hand-made config)")
    flags.add_new_name(verb)
    flags.add_talk(verb, verbose=True)


def _export(verb: Parser) -> None:
    _on_finished(verb)
    verb.add_argument(
        "--push-to-hub", metavar="REPO", help="also send them to this repository of Hugging Face, e.g. anna/bone"
    )
    verb.add_argument("--public", action="store_true", help="with --push-to-hub: everybody may read it (default: private)")


def _on_finished(verb: Parser) -> None:
    flags.add_name(verb)
    flags.add_moved_data(verb)
    flags.add_storage(verb)
    flags.add_talk(verb)


def _evaluate(verb: Parser) -> None:
    _explain(verb)
    verb.add_argument("--yes", action="store_true", help="open the test parts without asking")
    flags.add_json(verb)


def _explain(verb: Parser) -> None:
    _on_finished(verb)
    flags.add_splits(verb, "which splits (default: all that were retrained)")
    flags.add_device(verb)


def _predict(verb: Parser) -> None:
    verb.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help=".pt file, ONNX file, or folder: exported, an ensemble, folds"
    )
    verb.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="image files or folders of images; of volumes a file or patient folder, FLAIR,T1CE, or manifest.csv",
    )
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("table", "csv", "json"), help="how to print (default: table)")
    form.add_argument("--json", action="store_true", help="the same as --format json")
    verb.add_argument(
        "--output", type=Path, metavar="FILE", help="write there instead of printing (CSV, or JSON by --format)"
    )
    verb.add_argument("--overlays", type=Path, metavar="DIR", help="write there, for each image, where the model looks")
    verb.add_argument("--rank-uncertain", type=Path, metavar="FILE", help="CSV of the images to label first")
    flags.add_device(verb)
    flags.add_talk(verb)


def _space(verb: Parser) -> None:
    verb.add_argument("file", type=Path, metavar="FILE", help="YAML, see search_spaces/")
    flags.add_json(verb)


def _trial(verb: Parser) -> None:
    flags.add_name(verb)
    verb.add_argument("number", metavar="NUMBER", help="the trial's number (7), or 7r2 for a confirmation repeat")
    flags.add_moved_data(verb)
    flags.add_storage(verb, checkpoints=False)
    flags.add_talk(verb)


def _report(verb: Parser) -> None:
    flags.add_name(verb)
    flags.add_storage(verb)
    flags.add_json(verb)
    flags.add_talk(verb)


def _watch(verb: Parser) -> None:
    flags.add_name(verb)
    flags.add_storage(verb, checkpoints=False)
    verb.add_argument("--dashboard", action=argparse.BooleanOptionalAction, help="serve optuna-dashboard beside the table")


def _list(verb: Parser) -> None:
    flags.add_storage(verb, checkpoints=False)
    flags.add_json(verb)


def _label(verb: Parser) -> None:
    verb.add_argument("store", type=Path, metavar="STORE", help="label store, a .db file")
    verb.add_argument("--annotator", metavar="NAME", help="who labels (default: the user of this computer)")
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--holdout", action="store_true", help="label the hold-out: random order, no predictions")
    which.add_argument("--review", action="store_true", help="agree or not with the model, most confident images first")
    which.add_argument("--disagreements", action="store_true", help="settle what annotators answered differently")
    verb.add_argument("--single-key", action="store_true", help="one key decides all labels (at most three)")
    verb.add_argument(
        "--key", action="append", metavar="LABEL=K", help="the key of a label, kept in the store; may be repeated"
    )
    verb.add_argument("--port", type=int, metavar="N", help="port on 127.0.0.1 (default: the first free one from 8620)")
    flags.add_talk(verb)


def _completion(verb: Parser) -> None:
    verb.add_argument("shell", choices=SHELLS, help="the shell that you type in")


VERBS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "run": ("prepare, search, retrain on every split and export in one go", _run),
    "submit": ("the same as run, as a job on a Ray cluster", _submit),
    "prepare": ("read, check and audit the dataset, make the splits, decode once", _prepare),
    "search": ("search hyperparameters", _search),
    "retrain": ("train the winner of a search again on each split", _retrain),
    "train": ("train one config on the splits, without a search", _train),
    "export": ("write the winning checkpoint of each split in portable formats", _export),
    "evaluate": ("score the winner on the test parts; the only verb that opens them, and it logs that", _evaluate),
    "explain": ("show where the winner of each split looks on its validation part", _explain),
    "predict": ("class probabilities for images", _predict),
    "space": ("explain a search space and print five samples", _space),
    "trial": ("run one trial of a search again, alone, and compare the numbers", _trial),
    "report": ("write one self-contained HTML page, figures and tables of a search", _report),
    "watch": ("live view of a search, from any terminal", _watch),
    "label": ("label the images of a label store in the browser", _label),
    "list": ("show the searches at hand", _list),
    "labels": ("make and feed a label store: init, add, import, export, status, score", labels.declare),
    "completion": ("print the script by which a shell completes verbs and flags", _completion),
}
