"""A training in a used slot gives exactly the numbers of a fresh one, whatever happened before in that slot."""

import dataclasses
import gc
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.paths import ROOT
from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.training import loop
from tune_btxrd.training.loop import train
from tune_btxrd.training.pixels import Pixels
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import Diverged


def fresh() -> list[dict[str, object]]:
    return run(Slot(device="cpu").start(toy_config(), toy_data(), keep_best=False))


def failed(slot: Slot) -> None:
    with pytest.raises(Diverged):
        list(train(slot.start(toy_config(lr=1e30), toy_data(), keep_best=True)))


def abandoned_between_epochs(slot: Slot) -> None:
    next(train(slot.start(toy_config(dropout=0.5, seed=7), toy_data(), keep_best=True)))


def abandoned_mid_epoch(slot: Slot) -> None:
    state = slot.start(toy_config(dropout=0.5), toy_data(), keep_best=True)
    steps, step = [], loop.train_step

    def sixth_step_fails(*arguments: object) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_step", sixth_step_fails)
        list(train(state))
    assert len(steps) == 6 and not state.whole


def another_backbone(slot: Slot) -> None:
    run(slot.start(toy_config(backbone="test_resnet", epochs=1), toy_data(colour=True), keep_best=True))


def frozen_by_someone(slot: Slot) -> None:
    state = slot.start(toy_config(), toy_data(), keep_best=False)
    state.model.requires_grad_(False)
    state.model.eval()


def other_seeds(slot: Slot) -> None:
    for seed in range(6):  # more than the slot keeps
        slot.start(toy_config(seed=seed), toy_data(), keep_best=False)


STORIES = [failed, abandoned_between_epochs, abandoned_mid_epoch, another_backbone, frozen_by_someone, other_seeds]


@pytest.mark.parametrize("story", STORIES)
def test_a_used_slot_is_as_good_as_new(story: Callable[[Slot], None]):
    slot = Slot(device="cpu")
    story(slot)
    assert run(slot.start(toy_config(), toy_data(), keep_best=True)) == fresh()


def test_in_another_thread_and_twice():
    slot, rows = Slot(device="cpu"), []
    for _ in range(2):
        work = threading.Thread(target=lambda: rows.append(run(slot.start(toy_config(), toy_data(), keep_best=False))))
        work.start()
        work.join()
    assert rows == [fresh(), fresh()]


@pytest.mark.slow
def test_as_in_a_fresh_process():
    script = "import json, torch; from tests.training.test_slot import fresh\n"
    script += "torch.set_num_threads(1); print(json.dumps(fresh()))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    slot = Slot(device="cpu")
    another_backbone(slot)
    here = run(slot.start(toy_config(), toy_data(), keep_best=False))
    torch.set_num_threads(threads)
    assert json.loads(done.stdout) == here


def test_seed_decides_the_start_and_everything_after():
    slot = Slot(device="cpu")
    first, second = (run(slot.start(toy_config(seed=seed, epochs=1), toy_data(), keep_best=False)) for seed in (1, 2))
    assert first != second


def test_a_dead_state_cannot_go_on():
    slot = Slot(device="cpu")
    old = slot.start(toy_config(), toy_data(), keep_best=False)
    rows = train(old)
    next(rows)
    slot.start(toy_config(), toy_data(), keep_best=False)
    with pytest.raises(AssertionError):
        next(rows)


def test_threads_are_set():
    before = torch.get_num_threads()
    Slot(device="cpu", threads=before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


def test_mistakes_are_named():
    slot = Slot(device="cpu")
    with pytest.raises(ConfigError, match=r"image_size. must be the cache's 32, but got 64"):
        slot.start(toy_config(image_size=64), toy_data(), keep_best=False)
    with pytest.raises(ConfigError, match="did you mean 'efficientnet_b0'"):
        slot.start(toy_config(backbone="eficientnet_b0"), toy_data(), keep_best=False)
    shell = dataclasses.replace(slot.shell(toy_config(), 3), dropout_places=())
    with pytest.raises(ConfigError, match="no dropout"):
        shell.reset(shell.model.state_dict(), dropout=0.2)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_100"])
def test_dropout_reaches_the_model(backbone: str):
    slot = Slot(device="cpu")
    model = slot.start(toy_config(backbone=backbone, dropout=0.9), toy_data(), keep_best=False).model
    features = torch.randn(64, model.num_features, 2, 2)
    dropped = model.forward_head(features, pre_logits=True)
    slot.start(toy_config(backbone=backbone, dropout=0.0), toy_data(), keep_best=False)
    kept = model.forward_head(features, pre_logits=True)
    assert (dropped == 0).float().mean() > (kept == 0).float().mean() + 0.3


def test_resident_pixels_are_the_same_pixels():
    data = toy_data()
    pixels = Pixels(data.images, torch.device("cpu"))
    rows = torch.tensor([5, 0, 7])
    host = pixels.take(rows)
    pixels.resident = torch.tensor(data.images)
    assert torch.equal(pixels.take(rows), host) and torch.equal(host, torch.tensor(data.images[[5, 0, 7]]))


def test_maps_of_one_file_share_their_pixels(tmp_path: Path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((3, 2, 2), np.uint8))
    first, again, other = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("a", "a", "b"))
    assert Pixels.key(first) == Pixels.key(again) != Pixels.key(other)
    assert Pixels.key(first) != Pixels.key(first[1:])
    assert np.shares_memory(Pixels(first, torch.device("cpu")).images, first)  # no copy on the host


def test_memory_is_the_same_after_5_and_after_50_trainings():
    slot, data, resident = Slot(device="cpu"), toy_data(train=16, val=8), []
    for number in range(50):
        next(train(slot.start(toy_config(seed=number % 7), data, keep_best=True)))
        if number + 1 in (5, 50):
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
    assert resident[1] < resident[0] + 10


@pytest.mark.slow
def test_the_next_training_starts_sooner_than_the_first():
    slot, data, config = Slot(device="cpu"), toy_data(), toy_config(backbone="efficientnet_b0")
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        slot.start(config, data, keep_best=False)
        seconds.append(time.perf_counter() - began)
    assert min(seconds[1:]) < seconds[0] / 2, seconds  # a ratio: 6 ms against 300 ms on a quiet machine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda():
    slot = Slot(device="cuda")
    state = slot.start(toy_config(epochs=2), toy_data(), keep_best=True)
    first = run(state)
    assert state.pixels.resident is not None and state.pixels.resident.is_cuda
    assert run(slot.start(toy_config(epochs=2), toy_data(), keep_best=True)) == first
    gc.collect()
