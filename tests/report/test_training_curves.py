"""The pictures of a training: where stages end, and that all three are drawn from a real log."""

from pathlib import Path

import matplotlib.image as mpimg
import pandas as pd

from tests.support.toy_training import toy_config, toy_data
from tune_btxrd.report.training_curves import draw_curves, stage_borders
from tune_btxrd.results.checkpoints import LOG, WINNER, RetrainJob, write_log
from tune_btxrd.search.columns import named_row
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source


def test_borders_lie_between_the_stages() -> None:
    assert stage_borders(pd.DataFrame({"epoch": [1, 2, 3, 4, 5], "stage": [1, 1, 2, 3, 3]})) == [2.5, 3.5]
    assert stage_borders(pd.DataFrame({"epoch": [1, 2], "stage": [1, 1]})) == []


def test_three_pictures_of_a_training_in_stages(tmp_path: Path) -> None:
    config = toy_config(epochs=6, stages="three_stage", lr=1e-2)
    job = RetrainJob(split="stratified", stem="stratified", role=WINNER, seed_index=0, config=config, root=tmp_path)
    rows = [
        named_row(row, ("Normal", "Benign", "Malignant"))
        for row in train(Slot(device="cpu").start(config, toy_data(), keep_best=False))
    ]
    job.folder.mkdir(parents=True)
    write_log(job.folder / LOG, rows)
    draw_curves(job, Source(cache="", splits="", class_names=("Normal", "Benign", "Malignant"), positive_class=2))
    sizes = {
        name: mpimg.imread(job.folder / name).shape[:2]
        for name in ("loss_curve.png", "recall_curve.png", "training_curves.png")
    }
    assert sizes["training_curves.png"] == (960, 1500) and sizes["loss_curve.png"] == (480, 750)
