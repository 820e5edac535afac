"""One slot trains configs of several image sizes in turn, each with the numbers of a fresh one; no other size is opened."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tests.support.sources import FIXED, SIZE, make_source, with_wide
from tests.support.toy_training import run
from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import DataError
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A dataset of 32 and of 48 px."""
    return with_wide(make_source(tmp_path / "data"))


def trained(slot: Slot, source: Source, size: int) -> list[dict[str, object]]:
    config = TrainConfig.from_dict({**FIXED, "image_size": size, "epochs": 2})
    return run(slot.start(config, source.at(size).training_data("common"), keep_best=False))


def test_a_slot_trains_sizes_in_turn_as_fresh_slots_do(source: Source) -> None:
    slot = Slot(device="cpu")
    turns = [trained(slot, source, size) for size in (SIZE, 48, SIZE)]
    assert turns[0] == turns[2] == trained(Slot(device="cpu"), source, SIZE)
    assert turns[1] == trained(Slot(device="cpu"), source, 48) != turns[0]


def test_a_size_is_opened_when_it_is_asked_for(source: Source) -> None:
    shutil.rmtree(source.at(48).cache)
    assert source.at(SIZE).training_data("common").image_size == SIZE
    with pytest.raises(DataError, match="wide is not"):
        source.images(48)
    with pytest.raises(DataError, match="wide is not"):
        source.check("common")
    with pytest.raises(DataError, match="got 64 px: there are 32, 48 px"):
        source.at(64)


def test_a_source_is_read_back_with_its_sizes_and_without(source: Source) -> None:
    assert Source.from_dict(json.loads(json.dumps(source.to_dict()))) == source
    plain = dataclasses.replace(source, sizes=())
    known = plain.to_dict()
    del known["sizes"]  # of version 0.1.0
    assert (
        Source.from_dict(known) == plain and plain.at(999) is plain and plain.sides == (SIZE,) and source.sides == (32, 48)
    )
    with pytest.raises(DataError, match="holds 32 px and it takes 48 px"):
        plain.images(48)
