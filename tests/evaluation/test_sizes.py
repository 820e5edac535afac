"""A winner of 48 px beside a hand-made config of 32 px: scored, explained and exported each on its own pixels."""

# ruff: noqa: F811  # pytest hands fixtures over by name
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.finished_search import CONFIG, SIZE, Finished, finished, train_one  # noqa: F401  # a fixture
from tune_btxrd.data.cache.cache import build_caches
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.evaluate import open_test_parts, seal_search
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.inference.export import export_search, with_decisions
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import SizedCache, Source


@pytest.fixture
def sized(finished: Finished, tmp_path: Path) -> tuple[Finished, Source]:
    """The finished search with a winner of 48 px on the stratified split, and a source of both sizes."""
    hashes = file_hashes(finished.manifest, cache_dir=tmp_path)
    made = build_caches(finished.manifest, image_sizes=(SIZE, 48), cache_dir=tmp_path, hashes=hashes)
    sizes = tuple(SizedCache(image_size=size, cache=str(cache.path)) for size, cache in made.items())
    source = dataclasses.replace(finished.source, cache=sizes[0].cache, sizes=sizes)
    root = tmp_path / "checkpoints" / "toy"
    config = CONFIG.replace(image_size=48)
    train_one(Slot(device="cpu", threads=1), source.at(48), "stratified", config, root / "best_stratified.pt")
    (root / "stratified" / "hand_made").mkdir(parents=True)
    shutil.copy(finished.checkpoints / "stratified" / "hand_made" / "best.pt", root / "stratified" / "hand_made")
    return dataclasses.replace(finished, checkpoints=root, source=source), source


def test_each_model_is_scored_on_pixels_of_its_own_size(sized: tuple[Finished, Source]) -> None:
    search, source = sized
    given = {"results": search.results, "manifest": search.manifest, "replicates": 50, "device": "cpu"}
    evaluation = open_test_parts(seal_search(search.checkpoints, source=source, **given)).splits[0]
    assert not evaluation.failures
    split = load_split(search.results / "splits" / "stratified.csv", search.manifest)
    for model, path in zip(
        evaluation.models, (search.checkpoint(), search.checkpoints / "stratified/hand_made/best.pt"), strict=True
    ):
        predictor = open_checkpoint(path)
        cache = source.images(predictor.info.image_size)
        logits = predictor.logits(cache.images, cache.rows(split.parts["test"]))
        np.testing.assert_allclose(model.logits, logits, atol=1e-5)
    assert [open_checkpoint(path).info.image_size for path in (search.checkpoint(), path)] == [48, SIZE]
    assert (evaluation.folder / "explain" / "sheet.png").is_file()
    one = dataclasses.replace(source, sizes=())  # a cache of 32 px alone
    with pytest.raises(ResultError, match=r"must be of this dataset \(.* at 32 px\), but .* at 48 px: retrain"):
        seal_search(search.checkpoints, source=one, **given)


def test_explain_and_export_take_the_winners_pixels(sized: tuple[Finished, Source]) -> None:
    search, source = sized
    (explained,) = explain_search(
        search.checkpoints, results=search.results, manifest=search.manifest, source=source, device="cpu"
    )
    assert explained.sheet.is_file()
    (exported,) = export_search(search.checkpoints, results=search.results, source=source)
    assert max(exported.differences.values()) < 1e-3
    predictor, data = open_checkpoint(search.checkpoint()), source.at(48).training_data("stratified")
    decided = with_decisions(predictor, source=source, split="stratified").info.decisions
    assert decided == with_decisions(predictor, source=source.at(48), split="stratified").info.decisions
    assert decided is not None and decided.images == len(data.val_rows)
