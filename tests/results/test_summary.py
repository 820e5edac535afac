"""The closing table: readable for three classes and for twelve."""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tune_btxrd.config import TrainConfig
from tune_btxrd.results.checkpoints import LOG, WINNER, RetrainJob
from tune_btxrd.results.summary import closing_table
from tune_btxrd.search.columns import recall_columns
from tune_btxrd.training.source import Source


def closing_text(root: Path, names: tuple[str, ...]) -> str:
    """The table of one finished training in which the class with number n has recall n / 20."""
    job = RetrainJob(split="stratified", stem="stratified", role=WINNER, seed_index=0, config=TrainConfig(), root=root)
    recalls = {column: (number + 1) / 20 for number, column in enumerate(recall_columns(names))}
    epochs = [{"epoch": epoch, "val_loss": loss, "objective": loss} for epoch, loss in ((1, 0.5), (2, 0.75))]
    log = [{**row, "val_macro_f1": 0.5, **recalls, "zero_recall_epochs": 0, "improved": row["epoch"] == 1} for row in epochs]
    job.folder.mkdir()
    pd.DataFrame(log).to_csv(job.folder / LOG)
    source = Source(cache="none", splits="none", class_names=names, positive_class=1)
    console = Console(width=160, record=True)
    console.print(closing_table([job], source)[0])
    return console.export_text()


@pytest.mark.parametrize("count", [3, 12])
def test_every_cell_of_the_closing_table_can_be_read(count: int, tmp_path: Path) -> None:
    names = tuple(f"leaf spot {number}" for number in range(count))
    shown = closing_text(tmp_path, names)
    assert "recall leaf spot 1" in shown and " 0.10 " in shown  # the positive class
    assert ("0.05 (leaf spot 0)" in shown) == (count == 12)  # the one found least
    assert " best_stratified.pt " in shown and " 1/2 " in shown and "…" not in shown
