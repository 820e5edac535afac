"""What a model card says of a fold: its own validation part, and what all folds together gave."""

from collections.abc import Iterator
from pathlib import Path

from tune_btxrd.errors import shell_word
from tune_btxrd.inference.model_info import read_object
from tune_btxrd.results.fold_scores import nested_lines
from tune_btxrd.scoring.csv_tables import read_csv
from tune_btxrd.scoring.intervals import Interval
from tune_btxrd.tasks.record import shown

METRICS = "metrics.json"
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")


def fold_lines(split_folder: Path) -> Iterator[str]:
    """Lines of Markdown for `checkpoints/<name>/fold_<i>_of_<k>`; none where that is no scored fold.

    Raises:
        ResultError: a file that cannot be read.
    """
    table = split_folder.parent / "folds.csv"
    if not (split_folder / METRICS).is_file() or not table.is_file():
        return
    own, rows = read_object(split_folder / METRICS), read_csv(table).astype({"fold": str}).set_index("fold")
    count = split_folder.name.rpartition("_")[2]
    yield f"This is {own['fold']}: one of {count} models that belong together. A fold has no test part.\n"
    yield from (f"- {note}" for note in own["notes"])
    yield f"\n| validation | this fold | mean of {count} | sd | corrected 95 % interval |\n| --- | --- | --- | --- | --- |"
    for name in (name for name in SHOWN if name in own["scores"]):
        mean, sd, low, high = rows.loc[["mean", "sd", "low", "high"], name].astype(float)
        cells = (shown(float(value), 3) for value in (own["scores"][name], mean, sd))
        yield f"| {name} | {' | '.join(cells)} | {Interval(low, high)} |"
    for line in nested_lines(split_folder.parent):
        yield f"\n{line}"
    folder = shell_word(f"{split_folder.parent.name}/")
    yield f"\nAs an ensemble: `python -m tune_btxrd predict {folder} IMAGE...`, the folder of all folds."
