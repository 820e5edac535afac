"""`labels score`: what is written, what is never touched, what a kill costs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.label_models import BACKBONE, SIDE, save_checkpoint, save_weights
from tests.support.label_pages import LABELS, make_store
from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.inference.features import classifier_of
from tune_btxrd.inference.open_model import open_model
from tune_btxrd.labels.records import Act
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline.score_store import check_score, score_store
from tune_btxrd.pipeline.scorers import Backbone


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """40 images of 20 patients, a third of them held out."""
    return make_store(tmp_path, 40, holdout_share=0.3)


def holdout(store: LabelStore) -> set[int]:
    return {int(row[0] or 0) for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")}


def label(store: LabelStore, image: int, *, arm: str = "ranked") -> None:
    answers = dict.fromkeys(LABELS, 1)
    store.record(Act(kind="label", image=image, annotator="ann", client=f"{image:032x}", arm=arm, answers=answers))


def ranking(store: LabelStore) -> list[int]:
    return [int(row[0] or 0) for row in store.database.rows("SELECT image FROM images WHERE rank IS NOT NULL ORDER BY rank")]


def backbone(tmp_path: Path) -> Backbone:
    return Backbone(name=BACKBONE, weights=save_weights(tmp_path / "weights"), image_size=SIDE)


def test_scores_are_the_models_own_and_the_hold_out_has_none(store: LabelStore, tmp_path: Path) -> None:
    label(store, store.pool().images[0])
    checkpoint = save_checkpoint(tmp_path / "best.pt", [LABELS[1], "another", LABELS[0]])
    found = score_store(store.path, checkpoint=checkpoint, event=7)
    everything = sorted(set(range(1, 41)) - holdout(store))
    assert 0 < len(holdout(store)) < 20
    assert (found.scored, found.before, found.ranked) == (len(everything), 0, len(everything) - 1)
    model = store.latest_model()
    assert model is not None
    predictor = open_model(checkpoint)
    pixels = stack_samples([decode_image(store.file(store.image(number)), SIDE) for number in everything])
    wanted = predictor.info.task.probabilities(predictor.logits(pixels))
    assert store.probabilities(model, everything) == pytest.approx(wanted[:, [2, 0]], abs=1e-5)
    images, features = store.features(model)
    layer = classifier_of(predictor.model)
    again = layer(torch.from_numpy(features)).detach().numpy()
    assert images == everything
    assert again == pytest.approx(predictor.logits(pixels), abs=0.02)  # features are kept as float16
    assert store.database.one("SELECT event FROM models") == (7,)


def test_the_queue_holds_what_needs_a_label_and_never_the_hold_out(store: LabelStore, tmp_path: Path) -> None:
    first = store.pool().images[:3]
    for image in first:
        label(store, image)
    score_store(store.path, checkpoint=save_checkpoint(tmp_path / "best.pt", LABELS), strategy="badge+typiclust")
    assert sorted(ranking(store)) == store.pool().images
    assert not set(ranking(store)) & (holdout(store) | set(first))


def test_before_there_is_a_model_a_backbones_features_rank_and_no_opinion_is_kept(store: LabelStore, tmp_path: Path) -> None:
    given = backbone(tmp_path)
    found = score_store(store.path, backbone=given)
    assert found.strategy in {"typiclust", "random"}
    assert found.ranked == len(store.pool().images)
    assert store.latest_model() is None
    assert store.latest_backbone() == 1
    assert store.predictions_of(store.pool().images[0]) == {}
    with pytest.raises(ConfigError, match="no model yet"):
        score_store(store.path, backbone=given, strategy="badge")


def test_a_backbones_features_outlive_the_models_that_come_later(store: LabelStore, tmp_path: Path) -> None:
    score_store(store.path, backbone=backbone(tmp_path))
    for seed in range(2):
        score_store(store.path, checkpoint=save_checkpoint(tmp_path / f"{seed}.pt", LABELS, seed=seed))
    backed, latest = store.latest_backbone(), store.latest_model()
    assert backed is not None
    assert latest is not None
    assert len(store.features(backed)[0]) == len(store.features(latest)[0]) == len(store.pool().images)
    assert store.features(latest - 1)[0] == []


def test_no_weights_means_chance_and_is_said(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_at_hand(*_: object, **__: object) -> None:
        raise ConfigError("Pretrained weights must be at hand.")

    monkeypatch.setattr("tune_btxrd.pipeline.scorers.pretrained_backbone", none_at_hand)
    found = score_store(store.path)
    assert (found.ranked, found.strategy) == (0, "random")
    assert "images come at random. Pretrained weights must be at hand." in capsys.readouterr().out
    with pytest.raises(ConfigError, match="must be at hand"):
        score_store(store.path, backbone=Backbone())


def test_new_images_alone_are_scored_and_labels_rank_anew(store: LabelStore, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "best.pt", LABELS)
    before = score_store(store.path, checkpoint=checkpoint)
    assert (score := score_store(store.path, checkpoint=checkpoint)).scored == 0
    assert score.before == before.scored
    label(store, ranking(store)[0])
    again = score_store(store.path)
    assert (again.model, again.ranked) == ("", before.ranked - 1)


def test_missing_and_broken_files_are_named_and_the_others_scored(store: LabelStore, tmp_path: Path) -> None:
    gone, broken, other, given = (store.file(store.image(number)) for number in store.pool().images[:4])
    gone.unlink()
    other.write_bytes(given.read_bytes())  # another image under the name of one: not what its labels are about
    broken.write_bytes(b"no image")
    count = len(store.pool().images)
    found = score_store(store.path, checkpoint=save_checkpoint(tmp_path / "best.pt", LABELS))
    assert found.missing == (str(gone),)
    assert [file for file, _ in found.broken] == [str(broken), str(other)] and "has changed" in found.broken[1][1]
    assert found.scored == found.ranked == count - 3
    assert [image.path for image in store.missing_images()] == [gone.relative_to(store.folder).as_posix()]


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [(("a", "b"), "multilabel", "must know a label of the store"), (LABELS, "multiclass", "must be of task multilabel")],
)
def test_another_model_is_refused(store: LabelStore, tmp_path: Path, labels: tuple[str, ...], task: str, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        score_store(store.path, checkpoint=save_checkpoint(tmp_path / "best.pt", labels, task=task))


KILLED = """
import sys
from pathlib import Path
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline import score_store as module

module.KEPT_SECONDS, module.BATCH = 0.0, 4
write = LabelStore.write_scores

def told(self, model, images, probabilities, *, features=None):
    write(self, model, images, probabilities, features=features)
    print("kept", *images, flush=True)

LabelStore.write_scores = told
module.score_store(Path(sys.argv[1]), checkpoint=Path(sys.argv[2]), device="cpu")
print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_kill_loses_no_score_that_was_kept_and_doubles_none(tmp_path: Path) -> None:
    store = make_store(tmp_path, 60)
    checkpoint = save_checkpoint(tmp_path / "best.pt", LABELS)
    random, kept, ended = np.random.default_rng(0), list[int](), False
    for _ in range(30):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.path), str(checkpoint)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            most = int(random.integers(1, 5))  # blocks until the kill
            for line in process.stdout:
                kept += [int(word) for word in line.split()[1:]] if line.startswith("kept") else []
                ended = ended or line == "ended\n"
                if (most := most - line.startswith("kept")) == 0:
                    os.kill(process.pid, signal.SIGKILL)  # what it had said by then is still read
        model = 1
        assert set(kept) <= store.scored(model)
        rows = store.database.rows("SELECT image, count(*) FROM predictions GROUP BY image HAVING count(*) <> 2")
        assert rows == []
        if ended:
            break
    assert ended
    assert len(kept) == len(set(kept)), "an image was scored again although its score was kept"
    assert store.scored(1) == set(range(1, 61))


def test_the_verb_scores_says_what_it_did_and_goes_on(
    store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["labels", "score", str(store.path), "--checkpoint", str(save_checkpoint(tmp_path / "best.pt", LABELS))]
    count = 40 - len(holdout(store))
    assert main([*words, "--head", "5", "--device", "cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["scored"], document["before"], document["ranked"]) == (count, 0, 5)
    assert len(ranking(store)) == 5
    assert main([*words, "--strategy", "uncertain"]) == 0
    shown = capsys.readouterr().out
    assert "0 image(s) scored by " in shown and f"best.pt, {count} before" in shown
    assert f"{count} image(s) ranked by uncertain" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NAME", "--checkpoint", "a.pt"], "One model scores"),
        (["--storage", "x"], "there is no NAME"),
        (["--checkpoint", "a.pt", "--backbone", "b"], "stand in for a model"),
        (["--checkpoint", "a.pt"], "a.pt"),
        (["nobody"], "nobody"),
        (["--strategy", "best"], "best"),
    ],
)
def test_what_cannot_score_is_refused_in_one_line(
    store: LabelStore, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    score_store(store.path, checkpoint=save_checkpoint(store.folder / "best.pt", LABELS))
    assert main(["labels", "score", str(store.path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_no_score_is_refused_where_nothing_would_be_scored(store: LabelStore, tmp_path: Path) -> None:
    for data in (None, DataRequest(), DataRequest(data=tmp_path)):
        with pytest.raises(ConfigError, match="--no-score"):
            check_score(data, score=False, resume=False)
    check_score(DataRequest(data=store.path), score=False, resume=False)
    check_score(DataRequest(), score=False, resume=True)
