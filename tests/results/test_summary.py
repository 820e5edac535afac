"""The closing table: readable on 80 columns for three classes and for twelve, whatever their names; seeds are summed up."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tune_btxrd.config import TrainConfig
from tune_btxrd.results.checkpoints import HAND_MADE, LOG, WINNER, RetrainJob, plan_jobs
from tune_btxrd.results.summary import WIDTH, closing_table
from tune_btxrd.search.columns import recall_columns
from tune_btxrd.training.source import Source

THREE = ("Normal", "Benign", "Malignant")


def write_log(job: RetrainJob, names: tuple[str, ...], *, loss: float = 0.5, auc: float = 0.75) -> None:
    """A training of two epochs, the first one the best, in which the class with number n has recall n / 20."""
    recalls = {column: (number + 1) / 20 for number, column in enumerate(recall_columns(names))}
    log = [
        {
            "epoch": epoch,
            "val_loss": loss * epoch,
            "val_macro_f1": 0.5,
            "val_macro_auc": auc / epoch,
            **recalls,
            "zero_recall_epochs": 0,
            "improved": epoch == 1,
        }
        for epoch in (1, 2)
    ]
    job.folder.mkdir(parents=True)
    pd.DataFrame(log).to_csv(job.folder / LOG)


def text_of(jobs: list[RetrainJob], names: tuple[str, ...], width: int = WIDTH) -> str:
    source = Source(cache="none", splits="none", class_names=names, positive_class=1)
    console = Console(width=width, record=True)
    console.print(closing_table(jobs, source)[0])
    return console.export_text()


def job_of(root: Path, **config: object) -> RetrainJob:
    made = TrainConfig.from_dict(config)
    return RetrainJob(split="stratified", stem="stratified", role=WINNER, seed_index=0, config=made, root=root)


def test_an_undefined_recall_is_a_dash_and_never_the_lowest(tmp_path: Path) -> None:
    jobs, names = [job_of(tmp_path / "a"), replace(job_of(tmp_path / "b"), seed_index=1)], tuple("abcdefghijkl")
    for job in jobs:
        write_log(job, names)
        log = pd.read_csv(job.folder / LOG).assign(val_recall_a=float("nan"), val_recall_b=float("nan"))
        log.to_csv(job.folder / LOG, na_rep="nan")
    shown = text_of(jobs, names)
    assert " nan" not in shown and "0.15 (c)" in shown and re.search(r"mean.* -  ", shown)


@pytest.mark.parametrize(
    "names",
    [
        THREE,
        tuple(f"leaf spot {number}" for number in range(12)),
        ("osteochondromatosis", "chondroblastoma_giant", "osteosarcoma_conventional", "enchondroma"),
        tuple(f"{letter * 70}" for letter in "abc"),
    ],
)
def test_every_cell_fits_80_columns(names: tuple[str, ...], tmp_path: Path) -> None:
    job = job_of(tmp_path)
    write_log(job, names)
    shown = text_of([job], names)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= WIDTH
    assert "0.10" in shown and "0.5000" in shown and "1/2" in shown
    if len(names[1]) < 70:  # whole, and not spread over lines
        assert all(word in shown for word in names[1].split()), shown


def test_twelve_classes_name_the_one_found_least(tmp_path: Path) -> None:
    names = tuple(f"leaf spot {number}" for number in range(12))
    job = job_of(tmp_path)
    write_log(job, names)
    assert "0.05 (leaf spot 0)" in text_of([job], names, width=160)


def test_the_monitored_value_stands_first(tmp_path: Path) -> None:
    job = job_of(tmp_path, monitor="macro_auc")
    write_log(job, THREE)
    shown = text_of([job], THREE)
    header = next(line for line in shown.splitlines() if "macro-AUC" in line)
    assert header.index("macro-AUC") < header.index("macro-F1")
    assert "0.7500" in shown


def test_seeds_have_mean_and_deviation(tmp_path: Path) -> None:
    hand_made = TrainConfig(lr=1e-2)
    jobs = plan_jobs(tmp_path, {"stratified": "stratified"}, TrainConfig(), hand_made, seeds=2)
    for job in jobs:
        write_log(job, THREE, loss=0.5 + 0.2 * job.seed_index + (0.1 if job.role == HAND_MADE else 0.0))
    rows = [line.split() for line in text_of(jobs, THREE).splitlines() if "mean" in line or " sd " in line]
    found = [word for row in rows for word in row if word.startswith("0.") and len(word) == 6]
    assert found == ["0.6000", "0.1414", "0.7000", "0.1414"]  # of 0.5 and 0.7; of 0.6 and 0.8


def test_an_only_config_has_won_nothing(tmp_path: Path) -> None:
    job = replace(job_of(tmp_path), is_alone=True)
    write_log(job, THREE)
    shown = text_of([job], THREE)
    assert WINNER not in shown.split() and WINNER not in job.label.split() and "this config" in " ".join(shown.split())
