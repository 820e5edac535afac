"""Kills the scorer of a label store again and again while answers are written: no kept score may be lost or made again.

python -m benchmarks.score_kills --kills 100          (about two minutes)

Scorers are forked from a process that has loaded torch, so that a kill (SIGKILL, at a random moment) costs no start. Each
goes on where the one before was killed; when all images are scored, the next model begins. Meanwhile an annotator answers
and takes back, as fast as the store takes it. After every kill all scores that were kept must be there, each once, and at
the end every acknowledged answer too.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.label_kills import LABELS, make_store
from benchmarks.outcome import circumstances, write
from tune_btxrd.console import QUIET, set_verbosity
from tune_btxrd.labels.records import Act
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline import score_store as scoring
from tune_btxrd.training.models.shell import create

BACKBONE, SIDE = "test_efficientnet", 32
EARLY = 0.2  # share of the kills before a score is kept
LONGEST = 0.25  # s until a kill, from the first score that is kept
FORK = multiprocessing.get_context("fork")


@dataclass
class Kept:
    """What scorers have said that they kept, per model, and how often an image was made again."""

    images: dict[int, set[int]] = field(default_factory=dict)
    again: int = 0

    def hear(self, model: int, images: list[int]) -> None:
        """A block that is on the disk."""
        before = self.images.setdefault(model, set())
        self.again += len(before & set(images))
        before |= set(images)


def save(path: Path, seed: int) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(seed)
    values = {
        "model_state_dict": create(BACKBONE, len(LABELS)).state_dict(),
        "config": {"backbone": BACKBONE, "image_size": SIDE},
        "class_names": list(LABELS),
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "task": "multilabel",
    }
    torch.save(values, path)
    return path


def score(path: Path, checkpoint: Path, pipe: Connection) -> None:
    """Scores, in small blocks, and says which are kept."""
    keep = LabelStore.write_scores

    def told(self: LabelStore, model: int, images: Any, probabilities: np.ndarray, **more: Any) -> None:
        keep(self, model, images, probabilities, **more)
        pipe.send((model, list(images)))

    scoring.KEPT_SECONDS, scoring.BATCH = 0.0, 4
    LabelStore.write_scores = told  # type: ignore[method-assign]
    scoring.score_store(path, checkpoint=checkpoint, device="cpu", strategy="random")
    pipe.send(None)


def answer(path: Path, pipe: Connection) -> None:
    """Answers and takes back until it is ended; says what was acknowledged."""
    dice = random.Random(1)
    with LabelStore(path) as store:
        images = [row[0] for row in store.database.rows("SELECT image FROM images")]
        while True:
            client = f"{dice.getrandbits(128):032x}"
            if dice.random() < 0.15:
                event = store.undo("anna", client=client)
                pipe.send(None if event is None else client)
                continue
            answers = {name: dice.choice((0, 1, None)) for name in LABELS}
            image = dice.choice(images)
            store.record(Act(kind="label", image=image, annotator="anna", client=client, arm="random", answers=answers))
            pipe.send(client)
            time.sleep(0.005)


def run(folder: Path, *, kills: int, seed: int = 0) -> dict[str, int]:
    """Kills scorers; returns what was kept and found. Raises: AssertionError."""
    path, dice, kept, models = make_store(folder), random.Random(seed), Kept(), 1
    checkpoint = save(folder / "1.pt", 1)
    hears, says = FORK.Pipe(duplex=False)
    writer = FORK.Process(target=answer, args=(path, says), daemon=True)
    writer.start()
    says.close()
    acknowledged: list[str] = []
    done = ended = 0
    while done < kills:
        ear, mouth = FORK.Pipe(duplex=False)
        process = FORK.Process(target=score, args=(path, checkpoint, mouth))
        process.start()
        mouth.close()
        if dice.random() > EARLY:
            ear.poll(60)  # a score is kept, or all were
        process.join(dice.uniform(0.0, LONGEST))
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            done += 1
        process.join()
        is_over = _hear(ear, kept)
        acknowledged += _drain(hears)
        _require(path, kept)
        if is_over:
            models, ended = models + 1, ended + 1
            checkpoint = save(folder / f"{models}.pt", models)
    writer.kill()
    writer.join()
    acknowledged += _drain(hears)
    with LabelStore(path) as store:
        assert store.database.rows("PRAGMA integrity_check") == [("ok",)]
        clients = {name for (name,) in store.database.rows("SELECT client FROM events")}
    lost = set(acknowledged) - clients
    assert not lost, f"{len(lost)} acknowledged answers are lost"
    scores = sum(len(images) for images in kept.images.values())
    return {
        "kills": done,
        "models": ended,
        "kept": scores,
        "lost": 0,
        "made_again": kept.again,
        "answers": len(acknowledged),
    }


def _hear(pipe: Connection, kept: Kept) -> bool:
    """What a scorer has said before it ended; whether all was scored."""
    is_over = False
    for said in _messages(pipe):
        if said is None:
            is_over = True
        else:
            kept.hear(*said)
    return is_over


def _drain(pipe: Connection) -> list[str]:
    return [said for said in _messages(pipe) if said is not None]


def _messages(pipe: Connection) -> list[Any]:
    """All that lies in a pipe; a message that was cut off by the kill was not kept, or will be found."""
    found = []
    try:
        while pipe.poll():
            found.append(pipe.recv())
    except EOFError:
        pass
    return found


def _require(path: Path, kept: Kept) -> None:
    """Everything that was kept is there, for each label. Raises: AssertionError."""
    with LabelStore(path, read_only=True) as store:
        for model, images in kept.images.items():
            rows = store.database.rows("SELECT image, count(*) FROM predictions WHERE model = ? GROUP BY image", (model,))
            there = dict(rows)
            assert set(there.values()) <= {len(LABELS)}, "half a score"
            assert images <= set(there), f"{len(images - set(there))} kept scores are lost"


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    set_verbosity(QUIET)
    before = circumstances()
    with tempfile.TemporaryDirectory() as made:
        found = run(Path(made), kills=asked.kills, seed=asked.seed)
    write("score_kills", [found], before)


if __name__ == "__main__":
    main()
