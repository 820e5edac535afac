"""Cost and score by image size in the report of a search over several: numbers, table, page; nothing of it for one size."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.support.reports import make_search
from tune_btxrd.report.gather import gather
from tune_btxrd.report.image_sizes import size_rows, sizes_line
from tune_btxrd.report.page import write_report

SIZES = (64, 96, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of 24 trials, of which 0, 3, 6 ... are of 64 px, 1, 4, ... of 96 px; none is of 128 px."""
    made = make_search(tmp_path_factory.mktemp("sizes") / "stub", odd=False)
    space = (made / "space.yaml").read_text()
    space = space.replace("space:\n", "space:\n  image_size: {choices: [64, 96, 128]}\n", 1)
    (made / "space.yaml").write_text(space.replace("  - {", "  - {image_size: 64, "))
    lines = []
    for line in map(json.loads, (made / "journal.jsonl").read_text().splitlines()):
        size = SIZES[int(line["trial"].split("r")[0]) % 3 % 2] if "trial" in line else 0
        if line["event"] == "start":
            line["config"]["image_size"] = line["params"]["image_size"] = size
        if line["event"] == "epoch":
            line |= {"train_seconds": {64: 1.0, 96: 1.75}[size], "val_seconds": 0.25}
        lines.append(json.dumps(line) + "\n")
    (made / "journal.jsonl").write_text("".join(lines))
    return made


def test_rows_by_hand(folder: Path) -> None:
    material = gather(folder)
    small, middle, large = size_rows(material.record, material.spec)
    assert (small.size, small.trials, small.seconds, small.cost, small.pixels) == (64, 16, 1.25, 1.0, 1.0)
    assert (middle.size, middle.trials, middle.seconds, middle.cost, middle.pixels) == (96, 8, 2.0, 1.6, 2.25)
    assert (large.trials, large.epochs, large.seconds, large.cost, large.share, large.best) == (0, 0, None, None, 0.0, None)
    assert small.share == pytest.approx(1.25 * small.epochs / (1.25 * small.epochs + 2.0 * middle.epochs))
    trials = [trial for trial in material.record.search_trials if trial.number % 3 == 1]
    assert middle.best is min(trials, key=lambda trial: trial.rank) and middle.epochs == sum(len(t.epochs) for t in trials)
    told = sizes_line([small, middle, large], material.monitor)
    assert "64 px: 1.25 s an epoch" in told and "96 px: 2 s an epoch" in told and "128 px" not in told


def test_page_and_files_show_them(folder: Path) -> None:
    page = write_report(folder).read_text()
    assert 'data-chart="sizes"' in page and "Image sizes: score and cost" in page
    table = pd.read_csv(folder / "tables" / "sizes.csv")
    assert table["image size, px"].tolist() == list(SIZES) and table["by pixels"].tolist() == [1.0, 2.25, 4.0]
    assert (folder / "figures" / "sizes.png").stat().st_size > 1000


def test_one_size_has_no_such_picture(tmp_path: Path) -> None:
    material = gather(make_search(tmp_path / "stub", odd=False))
    assert not size_rows(material.record, material.spec) and not size_rows(material.record, None)
