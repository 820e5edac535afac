"""A trial's checkpoints when they are damaged: the one before is used, and it is said."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.sources import CLASSES
from tests.support.toy_training import toy_config, toy_data
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed.trial_checkpoint import TrialCheckpoint, before
from tune_btxrd.errors import ResultError
from tune_btxrd.training.checkpoint import load, save
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


def test_one_flipped_bit_gives_way_to_the_one_before(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    content = bytearray(path.read_bytes())
    weight = next(iter(load(path)["model_state_dict"].values())).numpy().tobytes()
    content[bytes(content).index(weight) + 3] ^= 0x40
    path.write_bytes(content)
    assert loaded(path, config) == (2, "checkpoint 7.pt damaged: went on from epoch 2")


def test_weights_that_are_not_finite_give_way_to_the_ones_before(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    checkpoint = load(path)
    next(iter(checkpoint["model_state_dict"].values())).view(-1)[0] = float("nan")
    save(checkpoint, path)
    assert loaded(path, config) == (2, "checkpoint 7.pt damaged: went on from epoch 2")


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(
    trained: tuple[Path, TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale file handle must not make a trial begin again."""

    def stale(*values: object, **named: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr("tune_btxrd.training.checkpoint.zipfile.ZipFile", stale)
    with pytest.raises(ResultError, match=r"A checkpoint must be readable, but .*7\.pt: Stale file handle"):
        loaded(*trained)


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


def test_one_of_a_version_that_knew_fewer_hyperparameters_goes_on(trained: tuple[Path, TrainConfig]) -> None:
    path, config = trained
    saved = load(path)
    for name in ("objective", "invert"):
        del saved["config"][name]
    save(saved, path)
    assert loaded(path, config)[0] == 3
    assert loaded(path, config.replace(invert=0.5))[0] == 0
