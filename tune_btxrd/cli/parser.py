"""The command line: `python -m tune_btxrd VERB`. Here are names and meanings of flags; `verbs.py` does the work.

Nothing heavy is imported before a verb runs, so that help comes at once.
"""

import argparse
from pathlib import Path

from tune_btxrd.version import __version__

DEVICES = ("auto", "cuda", "mps", "cpu")


def build_parser() -> argparse.ArgumentParser:
    """Every verb with its flags."""
    parser = argparse.ArgumentParser(
        prog="tune-btxrd",
        description="From a folder of radiographs to the best checkpoint per split, on a laptop or on a Ray cluster.",
        epilog="Without --data every verb works on the phantom, a synthetic dataset that the project draws itself.",
    )
    parser.add_argument("--version", action="version", version=f"tune-btxrd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    data, where, compute, training = _data_flags(), _where_flags(), _compute_flags(), _training_flags()
    search, talk = _search_flags(), _talk_flags()

    def verb(name: str, meaning: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        description = f"{meaning[0].upper()}{meaning[1:]}."
        return verbs.add_parser(name, help=meaning, description=description, parents=[*parents, talk])

    verb("run", "prepare, search, retrain on every split and export in one go", data, where, compute, training, search)
    submit = verb("submit", "the same as run, as a job on a Ray cluster", data, where, compute, training, search)
    _job_flags(submit)
    verb("prepare", "read, check and audit the dataset, make the splits, decode once", data, where, training, _splits_flag())
    verb("search", "search hyperparameters", data, where, compute, training, search)
    retrain = verb("retrain", "train the winner of a search again on each split", data, where, compute, _splits_flag())
    retrain.add_argument("name", metavar="NAME", help="the search")
    train = verb("train", "train one config on the splits, without a search", data, where, compute, training, _splits_flag())
    train.add_argument("--config", type=Path, metavar="FILE", help="YAML of hyperparameters (default: the hand-made config)")
    train.add_argument("--epochs", type=int, help="epoch budget")
    train.add_argument("--space", type=Path, metavar="FILE", help="search space whose hand-made config is trained")
    _name_flags(train)
    export = verb("export", "write the winning checkpoint of each split in portable formats", where)
    export.add_argument("name", metavar="NAME", help="the search")
    evaluate = verb("evaluate", "score the winner on the test parts; the only verb that opens them, and it logs that", where)
    evaluate.add_argument("name", metavar="NAME", help="the search")
    evaluate.add_argument("--yes", action="store_true", help="open the test parts without asking")
    explain = verb("explain", "show where the winner of each split looks on its validation part", where)
    explain.add_argument("name", metavar="NAME", help="the search")
    for finished in (evaluate, explain):
        finished.add_argument("--splits", metavar="A,B", help="which splits (default: all that were retrained)")
        finished.add_argument("--data", type=Path, metavar="DIR", help="where the dataset is now, if it has moved")
        finished.add_argument("--device", choices=DEVICES, default="auto", help="default: CUDA, else MPS, else CPU")
    predict = verb("predict", "class probabilities for images")
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=".pt file, exported folder or ONNX file")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files or folders of images")
    predict.add_argument("--format", choices=("table", "csv", "json"), default="table", help="how to print (default: table)")
    predict.add_argument(
        "--output", type=Path, metavar="FILE", help="write there instead of printing (CSV, or JSON by --format)"
    )
    predict.add_argument("--overlays", type=Path, metavar="DIR", help="write there, for each image, where the model looks")
    predict.add_argument("--rank-uncertain", type=Path, metavar="FILE", help="CSV of the images to label first")
    predict.add_argument("--device", choices=DEVICES, default="auto", help="default: CUDA, else MPS, else CPU")
    space = verb("space", "explain a search space and print five samples")
    space.add_argument("file", type=Path, metavar="FILE", help="YAML, see search_spaces/")
    trial = verb("trial", "run one trial of a search again, alone, and compare the numbers", where)
    trial.add_argument("name", metavar="NAME", help="the search")
    trial.add_argument("number", metavar="NUMBER", help="the trial's number (7), or 7r2 for a confirmation repeat")
    report = verb("report", "write one self-contained HTML page, figures and tables of a search", where)
    report.add_argument("name", metavar="NAME", help="the search")
    watch = verb("watch", "live view of a search, from any terminal", where)
    watch.add_argument("name", metavar="NAME", help="the search")
    watch.add_argument("--dashboard", action=argparse.BooleanOptionalAction, help="serve optuna-dashboard beside the table")
    verb("list", "show the searches at hand", where)
    return parser


def _flags() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _data_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_argument_group("dataset")
    group.add_argument(
        "--data", type=Path, metavar="DIR", help="dataset folder: BTXRD as it unzips, or one with manifest.csv"
    )
    group.add_argument(
        "--groups", choices=("duplicates", "patients", "none"), help="what stays in one part (default: duplicates)"
    )
    group.add_argument("--exclude", type=Path, metavar="FILE", help="ids to leave out, one per line")
    group.add_argument(
        "--duplicates", type=Path, metavar="FILE", help="CSV of duplicate pairs (first,second), instead of hashing"
    )
    group.add_argument("--positive-class", metavar="NAME", help="the class to watch (default: Malignant, or the rarest)")
    group.add_argument(
        "--layout",
        metavar="STEPS",
        help="what the folders of a dataset without a table mean, e.g. part/class or class/images",
    )
    group.add_argument("--accept-revision", action="store_true", help="go on although BTXRD's known facts do not hold")
    group.add_argument("--table-only", action="store_true", help="audit the table without images (prepare only)")
    group.add_argument("--phantom-count", type=int, metavar="N", help="images of the phantom")
    group.add_argument("--phantom-size", type=int, metavar="PX", help="longest side of the phantom's images")
    return flags


def _where_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_argument_group("where")
    group.add_argument(
        "--storage",
        default="ray_results",
        metavar="DIR",
        help="results: a folder, s3://... or gs://... (default: ray_results)",
    )
    group.add_argument("--checkpoints", type=Path, metavar="DIR", help="checkpoints (default: checkpoints)")
    group.add_argument("--cache", type=Path, metavar="DIR", help="decoded images (default: the user's cache folder)")
    return flags


def _compute_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_argument_group("how much")
    group.add_argument("--device", choices=DEVICES, default="auto", help="default: CUDA, else MPS, else CPU")
    group.add_argument("--slots", type=int, metavar="N", help="trials at once (default: measured)")
    group.add_argument("--cpus-per-trial", type=float, metavar="N", help="CPUs of each trial (default: measured)")
    group.add_argument("--gpus-per-trial", default="auto", metavar="auto|N", help="GPUs of each trial, also a fraction")
    group.add_argument(
        "--address",
        metavar="A",
        help="running Ray cluster: auto or HOST:PORT; for submit http://HOST:8265 (default: Ray on this machine)",
    )
    group.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings per config and split in the final job")
    return flags


def _training_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_argument_group("training (an error where the search space searches the value)")
    group.add_argument("--image-size", type=int, metavar="PX", help="side of the square input")
    group.add_argument("--batch-size", type=int, metavar="N", help="images per step")
    group.add_argument("--backbone", metavar="NAME", help="timm model name")
    group.add_argument("--pretrained", action=argparse.BooleanOptionalAction, help="start from timm's ImageNet weights")
    group.add_argument("--weights", type=Path, metavar="FILE", help="start from this file (safetensors or .pt)")
    group.add_argument("--seed", type=int, help="decides sampler, splits and training")
    return flags


def _splits_flag() -> argparse.ArgumentParser:
    flags = _flags()
    flags.add_argument("--splits", metavar="A,B", help="splits, comma-separated (default: stratified, center)")
    return flags


def _search_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_argument_group("search")
    group.add_argument(
        "--space", type=Path, metavar="FILE", help="search space (default: btxrd.yaml, phantom.yaml for the phantom)"
    )
    group.add_argument(
        "--split", default="common", help="what the search sees (default: common, which leaves out every test part)"
    )
    group.add_argument("--splits", metavar="A,B", help="splits to retrain on (default: stratified, center)")
    group.add_argument("--trials", type=int, metavar="N", help="trials of the search")
    group.add_argument("--epochs", type=int, metavar="N", help="epoch budget of each trial")
    group.add_argument("--confirm", type=int, metavar="K", help="configs to confirm by repeats; 0 skips")
    group.add_argument("--time-budget", metavar="6h", help="time for everything; s, min or h")
    group.add_argument("--tensorboard", action="store_true", help="also write TensorBoard event files into the results")
    group.add_argument("--mlflow", metavar="URI", help="also log to this MLflow store, e.g. sqlite:///mlflow.db")
    _name_flags(flags)
    return flags


def _job_flags(flags: argparse.ArgumentParser) -> None:
    group = flags.add_argument_group("job")
    group.add_argument("--packages", action="store_true", help="install requirements.txt on the nodes first")
    group.add_argument("--detach", action="store_true", help="send the job and leave, without following its log")
    group.add_argument("--status", metavar="JOB", help="tell how a job stands")
    group.add_argument("--log", metavar="JOB", help="follow a job's log")
    group.add_argument("--stop", metavar="JOB", help="stop a job; its state is saved")


def _talk_flags() -> argparse.ArgumentParser:
    flags = _flags()
    group = flags.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="print outcomes and warnings only")
    group.add_argument("-v", "--verbose", action="store_true", help="print every epoch, and Ray's own log")
    return flags


def _name_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--name", help="name of the search (default: <dataset>-<timestamp>)")
    flags.add_argument("--resume", action="store_true", help="go on with the search called --name")
