"""The report as a file: every number and name in it, from finished, killed, hostile and empty searches."""

import json
import math
import re
import shutil
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from tests.support.reports import HOSTILE, StubSearch, make_checkpoints, make_evaluation, make_search, make_settings
from tune_btxrd.errors import ResultError
from tune_btxrd.report import page
from tune_btxrd.report.charts import CHARTS
from tune_btxrd.report.gather import gather
from tune_btxrd.report.page import write_report
from tune_btxrd.report.payload import number, to_script
from tune_btxrd.report.words import summary_lines
from tune_btxrd.search.record import read_search

VOID = {"meta", "link", "img", "input"}
SEEN: list[tuple[int, int]] = []  # what the progress of the finished search's report was told


class Reader(HTMLParser):
    """Elements, text outside scripts, table rows, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data.strip())


def data_of(html: str) -> dict:
    return json.loads(re.search(r'id="data-json">(.*?)</script>', html, flags=re.S)[1])


@pytest.fixture(autouse=True, scope="module")
def few_draws():
    """Importance from few draws: its numbers are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "importances", partial(page.importances, draws=10))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_draws) -> tuple[Path, str]:
    folder = make_search(tmp_path_factory.mktemp("report") / "ray_results" / "stub")
    make_checkpoints(folder.parent / "checkpoints" / "stub")
    return folder, write_report(folder, progress=lambda done, total: SEEN.append((done, total))).read_text()


def test_main_numbers_are_words_and_tables_without_a_script(finished):
    folder, html = finished
    reader = Reader(html)
    assert reader.open == []
    text = " ".join(reader.texts)
    material = gather(folder)
    winner = material.selection.winner
    assert f"Winner: trial {winner.label}" in text
    assert "Optimism: its search score" in text
    assert "stratified, validation: val loss 0.8000, Malignant recall 0.25 (hand-made config: 0.9000, 0.25)" in text
    rows = [attrs for tag, attrs in reader.tags if tag == "tr" and "data-state" in attrs]
    assert len(rows) == 24 + 9 + 20  # trials and repeats, and the best twenty by all that was observed
    assert f"{winner.objective:.4f}" in reader.texts


def test_states_of_the_trials_are_told(finished):
    folder, html = finished
    states = [trial.state for trial in read_search(folder).search_trials]
    data = data_of(html)
    assert [t["state"] for t in data["trials"] if t["role"] == "search"] == states
    assert {"complete", "pruned", "diverged", "failed"} == set(states)  # the sample holds all of them
    assert (states.count("failed"), states.count("diverged")) == (1, 1) and states.count("pruned") > 3
    failed, diverged = (next(t for t in data["trials"] if t["state"] == state) for state in ("failed", "diverged"))
    assert failed["objective"] is None and failed["rows"] == [] and len(diverged["rows"]) == 4
    told = Reader(html).texts
    assert f"RuntimeError: out of memory {HOSTILE}" in told and "train loss is nan at epoch 5 with lr 0.01" in told
    cut = sum(state == "pruned" for state in states)
    assert f"ASHA stopped {cut} of 24 trials" in html
    assert len(data["cutoffs"]) == cut


def test_every_epoch_is_in_the_page(finished):
    folder, html = finished
    data = data_of(html)
    for trial in read_search(folder).search_trials:
        mine = next(t for t in data["trials"] if t["label"] == trial.label)
        assert [row[0] for row in mine["rows"]] == [row["epoch"] for row in trial.epochs]
        assert [row[2] for row in mine["rows"]] == pytest.approx([row["val_loss"] for row in trial.epochs], rel=1e-4)
        assert data["shared"] | mine["config"] == trial.config


def test_nothing_is_loaded_from_elsewhere(finished):
    reader = Reader(finished[1])
    for tag, attrs in reader.tags:
        assert not (tag == "script" and "src" in attrs)
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))
    assert "default-src 'none'" in finished[1]


def test_pictures_stand_in_the_page_and_as_files(finished):
    folder, html = finished
    names = set(re.findall(r'data-chart="(\w+)"', html))
    assert names == set(CHARTS) - {"sizes"}  # one alone is trained at
    for name in names:
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000
        assert "<svg" in (folder / "figures" / f"{name}.svg").read_text()


def test_tables_are_csv_with_all_digits_and_latex(finished):
    folder, _ = finished
    standings = gather(folder).selection.standings
    table = pd.read_csv(folder / "tables" / "confirmation.csv")
    assert table["mean"].tolist() == [item.mean for item in standings]
    latex = (folder / "tables" / "trials.tex").read_text()
    assert r"weight\_decay" in latex
    assert r"\toprule" in latex
    assert HOSTILE.replace("_", r"\_") in latex  # a reason; LaTeX has nothing against these marks


def test_a_killed_search_is_told_as_far_as_it_came(tmp_path: Path):
    folder = tmp_path / "stub"
    stub = StubSearch(folder, make_settings(folder)).search(24)
    stub.write(lines=len(stub.lines) // 2, half='{"event": "epoch", "time": 17900')
    html = write_report(folder).read_text()
    data = data_of(html)
    running = [t for t in data["trials"] if t["state"] == "running"]
    assert 1 <= len(running) <= 4
    assert f"{len(running)} unfinished" in html
    assert "No winner yet" in html
    assert "Best so far: trial" in html
    assert data["standings"] == []


def test_a_search_that_has_only_begun_has_a_report(tmp_path: Path):
    folder = tmp_path / "stub"
    StubSearch(folder, make_settings(folder)).write()
    html = write_report(folder).read_text()
    assert "No trial has started." in html
    assert data_of(html)["trials"] == []


def test_hostile_names_stay_text(tmp_path: Path):
    classes = ("Normal", r"$\frac{1}$ & {b}_%", f"Malignant {HOSTILE}")
    name = "a <b>&\"' <img src=x onerror=alert(1)>"
    folder = make_search(tmp_path / "stub", name=name, classes=classes)
    html = write_report(folder).read_text()
    reader = Reader(html)
    assert reader.open == []
    assert sum(tag == "script" for tag, _ in reader.tags) == 3
    assert name in reader.texts
    assert any(HOSTILE in text for text in reader.texts)
    data = data_of(html)
    assert (data["name"], data["positive"]) == (name, classes[2])
    assert "<" not in re.search(r'id="data-json">(.*?)</script>', html, flags=re.S)[1]


def test_one_config_without_a_search_has_a_report(tmp_path: Path):
    folder = tmp_path / "stub"
    make_settings(folder)
    settings = json.loads((folder / "search.json").read_text()) | {"kind": "train"}
    (folder / "search.json").write_text(json.dumps(settings))
    (folder / "journal.jsonl").touch()
    make_checkpoints(tmp_path / "own")
    html = write_report(folder, checkpoints=tmp_path / "own").read_text()
    assert "One config was trained, without a search." in html
    assert "center, validation: val loss 0.8000" in html
    assert set(re.findall(r'data-chart="(\w+)"', html)) == {"trainings"}


def test_scores_of_the_test_parts_come_with_the_count_of_their_openings(tmp_path: Path):
    folder = make_search(tmp_path / "stub", trials=6, odd=False)
    own = make_checkpoints(tmp_path / "own")
    assert "No test part has been opened" in write_report(folder, checkpoints=own).read_text()
    make_evaluation(own, opened=2)
    html = write_report(folder, checkpoints=own).read_text()
    texts = Reader(html).texts
    assert "stratified: 54 test images, opened 2 times." in texts
    assert any("has been opened 2 times; a choice made by its scores" in text for text in texts)
    assert f"stratified: Bootstrap: 2000 draws {HOSTILE}" in texts
    table = pd.read_csv(folder / "tables" / "test_scores.csv", keep_default_na=False)
    assert table.to_dict("records") == [
        {
            "split": "stratified",
            "metric": "accuracy",
            "winner": "0.625 (0.400-0.750)",
            "hand-made": "0.500 (0.400-0.750)",
            "difference": "+0.125 (-0.250 to +0.500)",
            "opened": 2,
        },
        {
            "split": "stratified",
            "metric": "auc Malignant",
            "winner": "0.625 (0.400-0.750)",
            "hand-made": "undefined",
            "difference": "",
            "opened": 2,
        },
        {
            "split": "stratified",
            "metric": "brier",
            "winner": "0.625 (0.400-0.750)",
            "hand-made": "0.500 (0.400-0.750)",
            "difference": "",
            "opened": 2,
        },
    ]
    warning = "stratified, test part: auc Malignant 0.625 (0.400-0.750) may be chance: its interval contains 0.5."
    assert warning in texts
    verdict = texts.index(next(text for text in texts if text.startswith("Winner: ") or text.startswith("No winner")))
    assert texts.index(warning) < verdict, "warned before anything is praised"
    assert "+0.125 (-0.250 to +0.500)" in texts
    (own / "stratified" / "evaluation" / "scores.csv").unlink()  # opened, then the scoring broke off
    assert "opened 2 times; the scoring did not come to its end." in write_report(folder, checkpoints=own).read_text()


def test_missing_pieces_are_named(tmp_path: Path):
    folder = make_search(tmp_path / "stub")
    (folder / "audit.json").unlink()
    material = gather(folder)
    assert any("audit.json is missing" in gap for gap in material.gaps)
    assert any("No training log" in gap for gap in material.gaps)
    (folder / "audit.json").write_text("{")
    assert any("damaged" in gap for gap in gather(folder).gaps)
    for other in ("null", "[1]", "7", '{"class_counts": 3, "missing": 5}'):
        (folder / "audit.json").write_text(other)
        assert any("damaged" in gap for gap in gather(folder).gaps), other


def test_a_copied_search_finds_the_checkpoints_beside_it(finished, tmp_path: Path):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "ray_results" / "stub")
    make_checkpoints(tmp_path / "checkpoints" / "stub")
    settings = json.loads((folder / "search.json").read_text()) | {"checkpoints": "/gone"}
    (tmp_path / "ray_results" / "stub" / "search.json").write_text(json.dumps(settings))
    assert any(
        line.startswith("center, validation: val loss") for line in summary_lines(gather(tmp_path / "ray_results" / "stub"))
    )


def test_no_search_is_one_line(tmp_path: Path):
    with pytest.raises(ResultError, match="No search called"):
        write_report(tmp_path / "nothing")


@pytest.mark.slow
def test_500_trials_stay_below_6_megabytes(tmp_path: Path):
    folder = tmp_path / "stub"
    stub = StubSearch(folder, make_settings(folder, trials=500))
    stub.rungs = {}  # nobody is cut: every trial brings all its epochs
    stub.search(500).write()
    file = write_report(folder)
    assert len(data_of(file.read_text())["trials"]) == 500
    assert file.stat().st_size < 6e6


def test_neither_torch_nor_ray_is_imported(tmp_path: Path):
    folder = make_search(tmp_path / "stub", trials=6, odd=False)
    program = (
        "import sys; from pathlib import Path; from tune_btxrd.report.page import write_report\n"
        "import tune_btxrd.cli.watch\n"
        f"write_report(Path({str(folder)!r}))\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'ray', 'torchvision', 'timm'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numbers_that_json_does_not_know_become_null():
    assert [number(v) for v in (math.nan, math.inf, 0.123456789, 3.0, True, "x", None)] == [
        None, None, 0.12346, 3, True, "x", None
    ]  # fmt: skip
    assert to_script({"a": "</script><!--&\u2028"}) == '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028"}'


def test_progress_ends_at_its_total(finished):
    assert SEEN == [(1, 4), (2, 4), (3, 4), (4, 4)]
