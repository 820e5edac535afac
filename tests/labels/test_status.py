"""Status: counts, pace and Cohen's kappa, against numbers made by hand and by scikit-learn."""

import json
import random
import time
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from tests.support.label_stores import act, make_store, write_images
from tune_btxrd.cli.main import main
from tune_btxrd.labels.status import cohens_kappa, status


def test_kappa_is_scikit_learns() -> None:
    dice = random.Random(0)
    for _ in range(50):
        first = [dice.random() < 0.4 for _ in range(30)]
        second = [value if dice.random() < 0.7 else not value for value in first]
        cells = [
            sum((a, b) == pair for a, b in zip(first, second, strict=True))
            for pair in ((False, False), (False, True), (True, False), (True, True))
        ]
        assert cohens_kappa(cells) == pytest.approx(cohen_kappa_score(first, second))
    assert cohens_kappa([0, 0, 0, 9]) is None and cohens_kappa([0, 0, 0, 0]) is None


def test_counts_agreement_and_pace(tmp_path: Path) -> None:
    with make_store(tmp_path, images=30, holdout=0.3) as store:
        held = [row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")]
        free = [number for number in range(1, 31) if number not in held]
        a, b, c, d, e = free[:5]
        act(store, a, {"Mass": 1, "Nodule": 0}, seconds=1)
        act(store, b, {"Mass": 1, "Nodule": 0}, seconds=2)
        act(store, c, {"Mass": 0}, seconds=9)
        act(store, d, kind="unsure", seconds=None)
        act(store, e, kind="bad", seconds=None)
        act(store, held[0], {"Mass": 1, "Nodule": 1}, seconds=None)
        act(store, a, {"Mass": 1, "Nodule": 0}, annotator="bob")
        act(store, b, {"Mass": 0, "Nodule": 0}, annotator="bob")
        act(store, c, {"Mass": 0}, annotator="bob")
        found = status(store)
        assert (found.images, found.holdout, found.bad, found.disputed) == (30, len(held), 1, 1)
        assert found.to_label == len(free) - 4 and found.holdout_to_label == len(held) - 1  # c lacks an answer
        mass, nodule = found.labels
        assert (mass.yes, mass.no, mass.disputed, mass.unknown) == (1, 1, 1, len(free) - 2)
        assert (mass.holdout_yes, mass.holdout_no, nodule.no) == (1, 0, 2)
        kappa = {item.label: item for item in found.agreement}
        assert (kappa["Mass"].images, kappa["Mass"].agree) == (3, 2)
        assert kappa["Mass"].kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
        assert kappa["Nodule"].kappa is None
        ann, bob = found.annotators
        assert (ann.name, ann.labelled, ann.unsure, ann.bad, ann.median_seconds) == ("ann", 4, 1, 1, 2)
        assert (bob.acts, bob.median_seconds) == (3, 2)


def test_verbs_from_folder_to_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """init, add, import, status and export as they are typed; a mistake costs one line and exit code 2."""
    store, images = str(tmp_path / "s.db"), write_images(tmp_path / "x", 8)
    assert main(["labels", "init", store, "--labels", "Mass,Nodule", "--label", "a, b", "--key", "Mass=q", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [label["key"] for label in made["labels"]] == ["q", "1", "2"]
    assert main(["labels", "init", store, "--labels", "Mass,Nodule"]) == 2
    error = capsys.readouterr().err
    assert "needs a free path" in error and error.count("\n") == 1
    assert main(["labels", "add", store, str(tmp_path / "x"), "--group-pattern", r"(p\d+)", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 8
    (tmp_path / "t.csv").write_text(f'path,label:Mass,"label:a, b"\nx/p00/{images[0].name},1,0\n')
    assert main(["labels", "import", store, str(tmp_path / "t.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recorded"] == 1
    assert main(["labels", "status", store, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["event"] == 1 and document["labels"][0]["yes"] + document["labels"][0]["holdout_yes"] == 1
    assert main(["labels", "status", store]) == 0 and "opened 0 time(s)" in capsys.readouterr().out
    assert main(["labels", "status", store, "--picture", str(tmp_path / "arms.png")]) == 2  # too few labels for a picture
    told = capsys.readouterr()
    assert "opened 0 time(s)" in told.out and "nothing to draw yet" in told.err
    assert main(["labels", "export", store, str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1 and (tmp_path / "manifest.csv").is_file()
    for words, message in (
        (["labels", "status", str(tmp_path / "none.db")], "there is nothing at"),
        (["labels", "status", str(tmp_path / "t.csv")], "must be a SQLite file"),
        (["labels", "add", store, str(tmp_path / "x"), "--group-column", "a"], "there is no table"),
        (["labels", "init", str(tmp_path / "y.db")], "A label must be named"),
        (["labels", "init", str(tmp_path / "y.db"), "--labels", "a,b", "--key", "q"], "NAME=K"),
        (["labels", "init", str(tmp_path / "y.db"), "--labels", "a,b", "--holdout-share", "2"], "holdout_share"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_an_opening_of_the_hold_out_is_counted_across_searches(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        assert store.log_opening(search="one", split="holdout", checkpoints={"winner": "0"}, images=5) == 1
        assert store.log_opening(search="two", split="holdout", checkpoints={}, images=5) == 2
        assert [(item.search, item.images) for item in status(store).openings] == [("one", 5), ("two", 5)]
        assert time.strftime("%Y-%m-%d", time.gmtime()) == store.openings()[0].time[:10]
