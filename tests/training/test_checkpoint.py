"""Checkpoints: resumed equals uninterrupted, best is what last was, plain data, whole or not at all, alien files named."""

import dataclasses
import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from tests.support.toy_training import numbers, run, toy_config, toy_data
from tune_btxrd.errors import ResultError
from tune_btxrd.training import checkpoint as files
from tune_btxrd.training.loop import predict, train
from tune_btxrd.training.schedule import cosine_lr
from tune_btxrd.training.slot import Slot

NAMES = ("Normal", "Benign", "Malignant")
BUMPY = {"epochs": 7, "lr": 2e-2, "patience": 6}  # some epochs improve, some do not


def equal(first: Any, second: Any) -> bool:
    """Equal to the last bit, through nested plain data."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.stride() == second.stride()
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(equal(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def without_seconds(checkpoint: dict[str, Any]) -> dict[str, Any]:
    clocked = ("images_per_second", "train_seconds", "val_seconds")
    rows = [{name: value for name, value in row.items() if name not in clocked} for row in checkpoint["history"]]
    return checkpoint | {"history": rows}


def trained(finished: int = 2, /, **changes: Any) -> tuple[Slot, dict[str, Any]]:
    slot = Slot(device="cpu")
    state = slot.start(toy_config(**changes), toy_data(), keep_best=True)
    for _ in range(finished):
        next(train(state))
    return slot, files.checkpoint_dict(state, class_names=NAMES)


@pytest.mark.parametrize("interrupted", range(1, 6))
def test_resume_equals_uninterrupted(interrupted: int, tmp_path: Path):
    check_resumed(interrupted, tmp_path)


FIELDS = (
    {"ema": 0.8},
    {"accumulate": 2, "batch_size": 8},
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "adam"},
    {"precision": "fp16", "loss": "ldam", "ldam_scale": 1e4, "clip": 1.0},  # gradients beyond half precision at first
    {"ema": 0.8, "accumulate": 2, "batch_size": 8, "optimizer": "sgd", "precision": "fp16", "lr": 0.1},
    {"ema": 0.8, "stages": "two_phase", "epochs": 12, "reload_best": True, "min_delta": 0.1},
)


@pytest.mark.parametrize("changes", FIELDS, ids=str)
def test_resume_equals_uninterrupted_with_each_field(changes: dict[str, Any], tmp_path: Path):
    check_resumed(3, tmp_path, **changes)


def check_resumed(interrupted: int, folder: Path, **changes: Any) -> None:
    """A training that goes on from a file has the rows and both checkpoints of one that never stopped."""
    changes, slot = BUMPY | changes, Slot(device="cpu")
    whole = slot.start(toy_config(**changes), toy_data(), keep_best=True)
    rows = run(whole)
    assert {row["improved"] for row in rows} == {True, False}
    assert (changes.get("precision") == "fp16") == any(row["skipped_steps"] for row in rows)
    ends = {
        which: without_seconds(files.checkpoint_dict(whole, class_names=NAMES, which=which)) for which in ("last", "best")
    }

    _, checkpoint = trained(interrupted, **changes)
    files.save(checkpoint, folder / "part.pt")
    resumed = files.restore(slot, files.load(folder / "part.pt"), toy_data())
    assert resumed.epoch == interrupted
    assert run(resumed) == rows
    for which in ("last", "best"):
        assert equal(without_seconds(files.checkpoint_dict(resumed, class_names=NAMES, which=which)), ends[which])


def test_a_training_goes_on_from_its_best_checkpoint_too():
    slot, changes = Slot(device="cpu"), BUMPY | {"ema": 0.8, "precision": "fp16"}
    state = slot.start(toy_config(**changes), toy_data(), keep_best=True)
    rows = run(state)
    best = files.checkpoint_dict(state, class_names=NAMES, which="best")
    assert best["epoch"] < len(rows)
    assert run(files.restore(slot, best, toy_data())) == rows


def test_a_checkpoint_without_what_its_config_needs_is_refused():
    slot, checkpoint = trained(1, ema=0.5, precision="fp16")
    for name in ("trained_state_dict", "scaler_state_dict"):
        with pytest.raises(ResultError, match=f"{name} is missing"):
            files.restore(slot, {key: value for key, value in checkpoint.items() if key != name}, toy_data())


def test_best_is_what_last_was_after_the_best_epoch():
    state = Slot(device="cpu").start(toy_config(**BUMPY), toy_data(), keep_best=True)
    lasts = []
    for row in train(state):
        lasts.append(files.checkpoint_dict(state, class_names=NAMES))
        best = files.checkpoint_dict(state, class_names=NAMES, which="best")
        assert equal(best, lasts[state.best_epoch - 1] | {"best": None})
        assert best["val_loss"] == best["best_val_loss"] == row.objective
    assert state.best_epoch < state.epoch


def test_a_finished_training_stays_finished():
    slot, checkpoint = trained(1, epochs=1)
    assert list(train(files.restore(slot, checkpoint, toy_data()))) == []


def test_a_checkpoint_shares_no_memory_with_the_training():
    slot = Slot(device="cpu")
    state = slot.start(toy_config(), toy_data(), keep_best=True)
    next(train(state))
    checkpoint = files.checkpoint_dict(state, class_names=NAMES)
    resumed = files.restore(slot, checkpoint, toy_data())
    first = numbers(list(train(resumed)))
    assert numbers(list(train(files.restore(slot, checkpoint, toy_data())))) == first  # it has not changed under way


def test_content_is_plain(tmp_path: Path):
    _, checkpoint = trained(2)
    files.save(checkpoint, tmp_path / "deep" / "a.pt")
    loaded = torch.load(tmp_path / "deep" / "a.pt", weights_only=True)
    assert set(files.KEYS) <= set(loaded) and [path.name for path in (tmp_path / "deep").iterdir()] == ["a.pt"]
    assert loaded["class_names"] == list(NAMES) and loaded["epoch"] == 2
    assert loaded["config"] == toy_config().to_dict()
    assert loaded["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    counts = np.bincount(toy_data().targets[toy_data().train_rows])
    assert loaded["class_weights"].tolist() == pytest.approx((49 / (3 * counts)).tolist())
    assert all(tensor.is_contiguous() for tensor in loaded["model_state_dict"].values())


def test_optimizer_and_scheduler_load_into_torch_s_own():
    _, checkpoint = trained(2, epochs=5)
    model = timm.create_model("test_efficientnet", num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = CosineAnnealingLR(optimizer, T_max=5, eta_min=1e-6)
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
    optimizer.param_groups[0]["lr"] = scheduler.get_last_lr()[0]
    for finished in (3, 4, 5):
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr()[0] == pytest.approx(cosine_lr(finished, toy_config(epochs=5)), rel=1e-9)


def test_the_model_loads_here_and_in_plain_timm_with_the_same_logits(tmp_path: Path):
    slot = Slot(device="cpu")
    state = slot.start(toy_config(), toy_data(), keep_best=False)
    next(train(state))
    files.save(files.checkpoint_dict(state, class_names=NAMES), tmp_path / "a.pt")
    logits = predict(state.model, state.pixels, state.val_rows, mean=state.mean, std=state.std, precision="fp32")

    model, checkpoint = files.load_model(tmp_path / "a.pt")
    plain = timm.create_model(checkpoint["config"]["backbone"], num_classes=3)
    plain.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True)["model_state_dict"])
    grey = torch.tensor(toy_data().images[toy_data().val_rows])[:, None].expand(-1, 3, -1, -1) / 255
    mean, std = (torch.tensor(checkpoint["normalization"][key])[:, None, None] for key in ("mean", "std"))
    assert not model.training
    for other in (model, plain.eval()):
        torch.testing.assert_close(other((grey - mean) / std), logits, atol=1e-4, rtol=1e-4)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.save({"a": 1}, tmp_path / "a.pt")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultError, match=r"a\.pt must be writable, but got: No space left"):
        files.save({"a": 2}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True) == {"a": 1} and list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_a_folder_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="must be writable"):
        files.save({}, tmp_path / "file" / "a.pt")


def test_alien_and_damaged_files_are_named(tmp_path: Path):
    files.save(trained(1)[1], tmp_path / "good.pt")
    content = (tmp_path / "good.pt").read_bytes()
    broken = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"hello",
        "zeros": bytes(1000),
        "pickle": b"\x80\x04N.",
    }
    for name, found in broken.items():
        (tmp_path / name).write_bytes(found)
        with pytest.raises(ResultError, match=name) as caught:
            files.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": {}}, tmp_path / "alien.pt")
    with pytest.raises(ResultError, match=r"alien\.pt has no 'epoch'"):
        files.load(tmp_path / "alien.pt")
    with pytest.raises(ResultError, match="none"):
        files.load(tmp_path / "absent.pt")


def test_a_checkpoint_of_another_dataset_or_backbone_is_refused():
    slot, checkpoint = trained(1)
    with pytest.raises(ResultError, match="other class counts"):
        files.restore(slot, checkpoint, toy_data(train=40, val=33))
    with pytest.raises(ResultError, match="3 classes instead of 4"):
        wide = dataclasses.replace(toy_data(), targets=np.arange(73) % 4, num_classes=4)
        files.restore(slot, checkpoint, wide)
    with pytest.raises(ResultError, match="does not fit test_resnet"):
        files.restore(slot, checkpoint | {"config": toy_config(backbone="test_resnet").to_dict()}, toy_data())


def test_no_checkpoint_of_a_training_that_died():
    state = Slot(device="cpu").start(toy_config(lr=1e30), toy_data(), keep_best=True)
    with pytest.raises(AssertionError):
        files.checkpoint_dict(state, class_names=NAMES)


def flipped(path: Path, of: torch.Tensor) -> None:
    """One bit of this tensor's bytes in the file is turned."""
    content = bytearray(path.read_bytes())
    at = bytes(content).index(of.numpy().tobytes())
    content[at + 2] ^= 0x40
    path.write_bytes(content)


def test_one_flipped_bit_is_found_and_named(tmp_path: Path):
    weight = torch.arange(100.0)
    torch.save({"weight": weight}, tmp_path / "a.pt")
    assert torch.equal(files.read_plain(tmp_path / "a.pt")["weight"], weight)
    flipped(tmp_path / "a.pt", weight)
    with pytest.raises(ResultError, match="a/data/0 is not what was written: bits have changed") as caught:
        files.read_plain(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("content", "message"), [(Code(), "holds posix.system"), (np.arange(3), r"holds numpy\S*multiarray._reconstruct")]
)
def test_what_is_no_plain_data_is_named_in_our_words(tmp_path: Path, content: object, message: str, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    torch.save({"best": content}, "a.pt")
    with pytest.raises(ResultError, match=message) as caught:
        files.read_plain(Path("a.pt"))
    assert "\x1b" not in str(caught.value) and not Path("ran").exists()


def test_a_score_as_a_number_of_numpy_is_read(tmp_path: Path):
    torch.save({"f1": np.float64(0.8), "epoch": np.int64(3)}, tmp_path / "a.pt")
    assert files.read_plain(tmp_path / "a.pt") == {"f1": 0.8, "epoch": 3}


def test_a_zip_bomb_and_an_old_format_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, message in (("bomb.pt", "compressed or overlap"), ("old.pt", "no zip file as torch.save writes")):
        with pytest.raises(ResultError, match=message):
            files.read_plain(tmp_path / name)
