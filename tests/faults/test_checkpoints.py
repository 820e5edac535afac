"""A trial's checkpoints when they are damaged: the one before is used, and it is said."""

from pathlib import Path

import pytest

from tests.support.sources import CLASSES
from tests.support.toy_training import toy_config, toy_data
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed.trial_checkpoint import TrialCheckpoint, before
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, TrainConfig]:
    """The checkpoints of a training that was killed after its third epoch."""
    config, path = toy_config(epochs=4), tmp_path / "7.pt"
    state = Slot(device="cpu", threads=1).start(config, toy_data(), keep_best=False)
    store = TrialCheckpoint(path, class_names=CLASSES)
    for _ in zip(range(3), train(state), strict=False):
        store.save(state)
    store.close()
    return path, config


def loaded(path: Path, config: TrainConfig) -> tuple[int, str]:
    """The epoch that a store goes on from (0: from the start), and what it says."""
    store = TrialCheckpoint(path, class_names=CLASSES)
    saved = store.load(config.to_dict())
    store.close()
    return (saved["epoch"] if saved else 0), store.note


def test_whole_checkpoints_say_nothing(trained: tuple[Path, TrainConfig]) -> None:
    assert loaded(*trained) == (3, "")


@pytest.mark.parametrize("keep", [0, 100, 20_000])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(keep: int, trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    path.write_bytes(path.read_bytes()[:keep])
    assert loaded(path, config) == (2, "checkpoint 7.pt damaged: went on from epoch 2")


def test_a_kill_between_two_files_leaves_the_one_before(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    path.unlink()
    assert loaded(path, config) == (2, "")


def test_without_any_whole_checkpoint_the_trial_begins_again(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    for file in (path, before(path)):
        file.write_bytes(b"PK broken")
    assert loaded(path, config) == (0, "checkpoint 7.pt and 7.before.pt damaged: began again")


def test_a_checkpoint_of_another_config_is_not_gone_on_with(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    assert loaded(path, config.replace(lr=config.lr / 2)) == (0, "")


def test_after_the_training_nothing_is_left(trained: tuple[Path, TrainConfig]) -> None:
    path, _ = trained
    store = TrialCheckpoint(path, class_names=CLASSES)
    store.close()
    store.remove()
    assert list(path.parent.iterdir()) == []
