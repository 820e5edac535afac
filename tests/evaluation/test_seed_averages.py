"""Ensemble and soup of seeds: what is written, what every verb says of them, and that no test part is read."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from tests.support.finished_search import CONFIG, Finished, finished, train_one  # noqa: F401  # a fixture
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.evaluate import Evaluation, average_summary, open_test_parts, seal_search, summary_rows
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.evaluation.seed_averages import average_seeds
from tune_btxrd.inference.export import Exported, export_search
from tune_btxrd.inference.open_average import is_ensemble, open_any
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.inference.predict import image_files
from tune_btxrd.pipeline.predict_images import predict_images
from tune_btxrd.report.opened_parts import read_opened_parts
from tune_btxrd.results.checkpoints import RetrainJob, finished_splits, plan_jobs, write_log
from tune_btxrd.results.member_list import ENSEMBLE, SOUP, MemberList, member_lists
from tune_btxrd.results.summary import closing_table
from tune_btxrd.search.columns import named_row
from tune_btxrd.training.checkpoint import load, restore
from tune_btxrd.training.pixels import Pixels
from tune_btxrd.training.slot import Slot

SEEDS, SPLIT = 3, "stratified"


@dataclasses.dataclass(frozen=True)
class Averaged:
    jobs: list[RetrainJob]
    lists: dict[str, MemberList]
    folder: Path  # checkpoints/<name>
    exported: list[Exported]
    evaluation: Evaluation


@pytest.fixture(scope="module")
def averaged(finished: Finished) -> Averaged:
    """Three seeds of one split, averaged, exported, evaluated."""
    root = finished.checkpoints.parent / "averaged"
    jobs, slot = plan_jobs(root, {SPLIT: SPLIT}, CONFIG, None, seeds=SEEDS), Slot(device="cpu", threads=1)
    for job in jobs:
        train_one(slot, finished.source, job.stem, job.config, job.best)
        history = [finished.manifest.task.record.from_dict(row) for row in load(job.best)["history"]]
        write_log(job.folder / "training_log.csv", [named_row(row, finished.manifest.class_names) for row in history])
    lists = average_seeds(jobs, (ENSEMBLE, SOUP), source=finished.source, device="cpu", replicates=200)
    exported = export_search(root, results=finished.results, source=finished.source)
    sealed = seal_search(
        root, results=finished.results, manifest=finished.manifest, source=finished.source, replicates=200, device="cpu"
    )
    return Averaged(
        jobs=jobs,
        lists={listed.kind: listed for listed in lists},
        folder=root,
        exported=exported,
        evaluation=open_test_parts(sealed),
    )


def val_logits(path: Path, finished: Finished) -> np.ndarray:
    data = finished.source.training_data(SPLIT)
    return open_any(path).logits(data.images, data.val_rows)


def test_the_ensemble_is_the_mean_of_the_members_probabilities(averaged: Averaged, finished: Finished) -> None:
    task, folder = finished.manifest.task, averaged.folder / SPLIT / "ensemble"
    each = [task.probabilities(val_logits(job.best, finished)) for job in averaged.jobs]
    np.testing.assert_allclose(task.probabilities(val_logits(folder, finished)), np.mean(each, axis=0), atol=1e-6)
    listed = MemberList.load(folder)
    assert [member.name for member in listed.members] == ["seed 42", "seed 43", "seed 44"]
    assert all((folder / member.file).is_file() for member in listed.members)
    data = finished.source.training_data(SPLIT)
    wanted = task.scores(task.logits(np.mean(each, axis=0)), data.targets[data.val_rows])["val_loss"]
    assert listed.value == pytest.approx(wanted, abs=1e-5) and listed.scores["val_loss"] == listed.value


def test_the_soup_is_an_ordinary_checkpoint_that_is_no_worse_on_validation(averaged: Averaged, finished: Finished) -> None:
    path, listed = averaged.folder / SPLIT / "soup" / f"best_{SPLIT}.pt", averaged.lists[SOUP]
    values = [member.value for member in listed.members]
    assert values == sorted(values) and listed.members[0].kept and listed.members[0].together is None
    assert listed.value is not None and listed.value <= values[0]
    data = finished.source.training_data(SPLIT)
    logits = val_logits(path, finished)
    found = finished.manifest.task.scores(logits, data.targets[data.val_rows])["val_loss"]
    assert found == pytest.approx(listed.value, abs=1e-5)
    checkpoint = load(path)
    assert checkpoint["members"] == [member.name for member in listed.kept] and checkpoint["optimizer_state_dict"] == {}
    with pytest.raises(ResultError, match="this one is a soup"):
        restore(Slot(device="cpu"), checkpoint, data)


def test_the_members_values_are_those_of_their_best_epochs(averaged: Averaged) -> None:
    best = {f"seed {job.config.seed}": load(job.best)["best_val_loss"] for job in averaged.jobs}
    for listed in averaged.lists.values():
        assert {member.name: member.value for member in listed.members} == pytest.approx(best, abs=1e-5)


def test_the_same_again_is_the_same(averaged: Averaged, finished: Finished, tmp_path: Path) -> None:
    """A retrain that was killed while it averaged makes the averages anew."""
    root = tmp_path / "again"
    shutil.copytree(averaged.folder, root)
    soup, ensemble = root / SPLIT / "soup", root / SPLIT / "ensemble"
    before = (soup / "members.json").read_text()
    (soup / "members.json").unlink()
    (ensemble / "seed_43" / "best.pt").unlink()
    jobs = [dataclasses.replace(job, root=root) for job in averaged.jobs]
    average_seeds(jobs, (ENSEMBLE, SOUP), source=finished.source, device="cpu", replicates=200)
    assert (soup / "members.json").read_text() == before
    fewer = average_seeds(jobs[:2], (ENSEMBLE,), source=finished.source, device="cpu", replicates=200)
    assert len(fewer[0].members) == 2 and not (ensemble / "seed_44" / "best.pt").exists()
    table, before = (pd.read_csv(folder / SPLIT / "averages.csv") for folder in (root, averaged.folder))
    own, old = (frame[frame["model"] == SOUP].reset_index(drop=True) for frame in (table, before))
    assert set(table["model"]) == {ENSEMBLE, SOUP}  # the soup lies there still
    np.testing.assert_array_equal(own["value"], old["value"])


def test_exports_answer_as_their_models_and_the_card_says_what_they_are(averaged: Averaged, finished: Finished) -> None:
    assert [item.stem for item in averaged.exported] == [SPLIT, f"{SPLIT}_ensemble", f"{SPLIT}_soup"]  # apart on the hub
    images = image_files([finished.data / "images"])[:6]
    for kind, where in ((ENSEMBLE, "ensemble"), (SOUP, f"soup/best_{SPLIT}.pt")):
        model, export = averaged.folder / SPLIT / where, averaged.folder / SPLIT / kind / "export"
        own, exported = predict_images(model, images, device="cpu"), predict_images(export, images, device="cpu")
        np.testing.assert_allclose(own.probabilities, exported.probabilities, atol=1e-5)
        assert own.calibrated is not None and exported.calibrated is not None
        np.testing.assert_allclose(own.calibrated, exported.calibrated, atol=1e-5)
        card = (export / "MODEL_CARD.md").read_text()
        assert f"no single training but the {averaged.lists[kind].title}" in card and "seed 43" in card
        assert f"| {kind} - winner |" in card and f"{kind.capitalize()}; Clopper-Pearson" in card
    single = (averaged.folder / SPLIT / "export" / "MODEL_CARD.md").read_text()
    assert "no single training" not in single and "| ensemble - winner |" in single


def test_every_table_of_evaluate_has_both_beside_the_winner(averaged: Averaged, finished: Finished) -> None:
    (split,) = averaged.evaluation.splits
    assert [model.name for model in split.models] == ["winner", "ensemble", "soup"]
    for name in ("scores", "operating_points", "calibration", "subgroups"):
        assert set(split.tables[name]["model"]) == {"winner", "ensemble", "soup"}
    table, scores = split.tables["averages"], split.tables["scores"]
    for kind in (ENSEMBLE, SOUP):
        own = table[(table["model"] == kind) & (table["metric"] == "brier")].iloc[0]
        values = {
            model: scores[(scores["model"] == model) & (scores["metric"] == "brier")]["value"].item()
            for model in ("winner", kind)
        }
        assert own["value"] == values[kind] and own["winner"] == values["winner"]
        assert own["difference"] == pytest.approx(values[kind] - values["winner"])
        assert own["low"] <= own["difference"] <= own["high"]
    names = finished.manifest.class_names
    assert len(summary_rows(split, names)[0]) == 2
    assert list(average_summary(split, names)[0]) == [
        "metric", "winner", "ensemble", "ensemble - winner", "soup", "soup - winner",
    ]  # fmt: skip
    assert (split.folder / "predictions_soup.csv").is_file()
    log = json.loads((split.folder / "test_log.json").read_text())
    assert len(log) == 1 and {"winner", "ensemble", "soup"} <= set(log[0]["checkpoints"])


def test_report_and_closing_table_have_them(averaged: Averaged, finished: Finished) -> None:
    (part,) = read_opened_parts(averaged.folder, "Malignant")
    assert list(part.average_rows[0])[-1] == "soup - winner" and "soup" not in part.rows[0]
    assert {point["config"] for point in part.points} == {"winner", "ensemble", "soup"}
    assert [listed.kind for listed in member_lists(averaged.folder)] == [ENSEMBLE, SOUP]
    table, _ = closing_table(averaged.jobs, finished.source, member_lists(averaged.folder, [SPLIT]))
    screen = io.StringIO()
    Console(width=200, file=screen).print(table)
    text = screen.getvalue()
    assert [listed.title in text for listed in averaged.lists.values()] == [True, True]
    assert text.index("seed") < text.index("mean") < text.index("ensemble of 3") < text.index("soup of")
    for listed in averaged.lists.values():
        made_of, gain = listed.lines()
        assert "seed 44" in made_of and f"{listed.kind} minus winner on validation" in gain


def test_gains_are_paired(averaged: Averaged) -> None:
    table = pd.read_csv(averaged.folder / SPLIT / "averages.csv")
    loss = table[table["metric"] == "val loss"].set_index("model")
    for kind, listed in averaged.lists.items():
        assert loss.loc[kind, "value"] == pytest.approx(listed.scores["val_loss"], abs=1e-6)
        assert loss.loc[kind, "winner"] == pytest.approx(load(averaged.jobs[0].best)["best_val_loss"], abs=1e-5)
        assert listed.gains[0].difference == pytest.approx(loss.loc[kind, "difference"])


def test_no_test_pixel_is_read(averaged: Averaged, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages see the train and val rows of a split alone."""
    split = pd.read_csv(finished.results / "splits" / f"{SPLIT}.csv")
    data = finished.source.training_data(SPLIT)
    seen, real = set[int](), Pixels.take

    def take(self: Pixels, rows: torch.Tensor) -> torch.Tensor:
        seen.update(rows.tolist())
        return real(self, rows)

    monkeypatch.setattr(Pixels, "take", take)
    average_seeds(averaged.jobs[:2], (ENSEMBLE, SOUP), source=finished.source, device="cpu", replicates=10)
    assert len(seen) == (split["part"] != "test").sum()
    assert seen == {*data.train_rows.tolist(), *data.val_rows.tolist()}


def test_a_damaged_ensemble_is_refused_in_one_line(averaged: Averaged, tmp_path: Path) -> None:
    folder = tmp_path / "ensemble"
    shutil.copytree(averaged.folder / SPLIT / "ensemble", folder)
    shutil.copy(folder / "seed_42" / "best.pt", folder / "seed_43" / "best.pt")
    with pytest.raises(ResultError, match=r"seed_43/best\.pt is another one"):
        open_any(folder)
    content = json.loads((folder / "members.json").read_text())
    for wrong in (content | {"kind": "stew"}, content | {"members": []}, [], {**content, "value": "x"}):
        (folder / "members.json").write_text(json.dumps(wrong))
        with pytest.raises(ResultError, match=r"members.json must"):
            is_ensemble(folder)
    content["members"][0]["file"] = "../../best_stratified.pt"
    (folder / "members.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="beside itself"):
        open_any(folder)


def test_overlays_of_an_ensemble_are_refused(averaged: Averaged, finished: Finished, tmp_path: Path) -> None:
    images = image_files([finished.data / "images"])[:1]
    with pytest.raises(ResultError, match=r"is an ensemble: give one member, e.g. .*seed_42/best.pt"):
        predict_images(averaged.folder / SPLIT / "ensemble", images, overlays=tmp_path / "overlays")
    soup = averaged.folder / SPLIT / "soup" / f"best_{SPLIT}.pt"
    predict_images(soup, images, overlays=tmp_path / "overlays", device="cpu")
    assert list((tmp_path / "overlays").iterdir())


def test_explain_shows_the_soup_too(averaged: Averaged, finished: Finished) -> None:
    found = explain_search(
        averaged.folder, results=finished.results, manifest=finished.manifest, source=finished.source, device="cpu"
    )
    assert [item.split for item in found] == [SPLIT, f"{SPLIT}, soup"]
    assert [item.sheet.parent.parent for item in found] == [averaged.folder / SPLIT, averaged.folder / SPLIT / "soup"]
    assert all(item.sheet.is_file() for item in found)


def test_a_search_without_averages_is_as_before(finished: Finished) -> None:
    assert [split.averages for split in finished_splits(finished.checkpoints)] == [{}, {}]
    assert not is_ensemble(finished.checkpoints) and member_lists(finished.checkpoints) == []
    assert open_checkpoint(finished.checkpoint()).info == open_any(finished.checkpoint()).info
