"""Kills the labelling page again and again under a load of saves: no acknowledged event may be lost, none counted twice.

python -m benchmarks.label_kills --kills 100          (about 3 s a kill)

Two annotators, each with a server of his own, at one store. Each has two senders that answer and take back as fast as they
are acknowledged, and repeat what nobody acknowledged, as the page does. A server is killed (SIGKILL) at a random moment and
started again. After every kill all that was acknowledged must be in the store; at the end the store must hold what was
sent, each once, and its tables must be what its events say.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from tune_btxrd.files import file_sha256
from tune_btxrd.labels.records import NewImage
from tune_btxrd.labels.store import LabelStore

IMAGES, SENDERS = 120, 2
LABELS = ("effusion", "cardiomegaly")
UNDOS = 0.15  # share of the operations
PATIENCE = 60.0  # s that a server may take to answer again


@dataclass
class Annotator:
    """One annotator: his server, what he has sent, and what was acknowledged."""

    name: str
    store: Path
    port: int
    random: random.Random
    process: "subprocess.Popen[str] | None" = None
    token: str = ""
    sent: list[dict[str, object]] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)  # undos that found nothing to take back: no event
    ends: bool = False

    def start(self) -> None:
        """Starts the server and waits for its address."""
        command = [
            sys.executable,
            "-m",
            "tune_btxrd",
            "label",
            str(self.store),
            "--annotator",
            self.name,
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings(self.store))
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.token = line.strip().partition("token=")[2]
                return
        raise RuntimeError("the page did not start")

    def kill(self) -> None:
        """Ends the server as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    async def send_all(self) -> None:
        """Sends until it is told to end; what is under way is brought to its end."""
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(headers={"X-Token": self.token}, timeout=timeout) as session:
            while not self.ends:
                operation = self._operation()
                self.sent.append(operation)
                reply = await self._until_acknowledged(session, operation)
                name = str(operation["client_id"])
                (self.idle if "item" in reply and reply["item"] is None else self.acknowledged).append(name)

    async def _until_acknowledged(
        self, session: aiohttp.ClientSession, operation: Mapping[str, object]
    ) -> dict[str, object]:
        address, begun = f"http://127.0.0.1:{self.port}/api/events", asyncio.get_running_loop().time()
        while True:
            try:
                async with session.post(address, json=operation) as answer:
                    reply = await answer.json()
                    assert answer.status == 200, reply
                    return dict(reply)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                assert asyncio.get_running_loop().time() - begun < PATIENCE, "the server has not come back"
                await asyncio.sleep(0.05)

    def _operation(self) -> dict[str, object]:
        stamp = {"client_id": f"{self.random.getrandbits(128):032x}"}
        if self.random.random() < UNDOS:
            return {"op": "undo", **stamp}
        kind = self.random.choice(("label",) * 8 + ("unsure", "bad", "skip"))
        values = [self.random.choice((0, 1, None)) for _ in LABELS] if kind == "label" else None
        image = self.random.randrange(1, IMAGES + 1)
        return {"op": "answer", "kind": kind, "image": image, "values": values, "arm": "random", "seconds": 1.0, **stamp}


def surroundings(store: Path) -> dict[str, str]:
    """Variables of a server: its secret lies beside the store."""
    return {**os.environ, "XDG_STATE_HOME": str(store.parent / "state")}


def make_store(folder: Path) -> Path:
    """A store with small images of noise."""
    rng = np.random.default_rng(0)
    with LabelStore.create(folder / "kills.db", LABELS, holdout_share=0.0, double_share=0.5, salt="kills") as store:
        images = []
        for number in range(IMAGES):
            path = folder / f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
            images.append(NewImage(path=path.name, sha256=file_sha256(path), size=path.stat().st_size, mtime=0))
        store.insert_images(images)
        return store.path


def run(folder: Path, *, kills: int, seed: int = 0) -> dict[str, int]:
    """Kills servers at random moments; returns how much was sent, acknowledged and found. Raises: AssertionError."""
    path, dice = make_store(folder), random.Random(seed)
    annotators = [Annotator(name, path, free_port(), random.Random(f"{seed} {name}")) for name in ("anna", "bert")]
    try:
        for one in annotators:
            one.start()
        asyncio.run(_under_load(annotators, kills, dice))
    finally:
        for one in annotators:
            if one.process is not None:
                one.kill()
    return {"kills": kills, **check(path, annotators)}


async def _under_load(annotators: Sequence[Annotator], kills: int, dice: random.Random) -> None:
    senders = [asyncio.create_task(one.send_all()) for one in annotators for _ in range(SENDERS)]
    for _ in range(kills):
        await asyncio.sleep(dice.uniform(0.02, 0.7))
        one = dice.choice(annotators)
        await asyncio.to_thread(one.kill)
        await asyncio.to_thread(_require_all, one.store, [name for each in annotators for name in list(each.acknowledged)])
        await asyncio.to_thread(one.start)
    await asyncio.sleep(0.5)
    for one in annotators:
        one.ends = True
    await asyncio.gather(*senders)


def _require_all(path: Path, acknowledged: Sequence[str]) -> None:
    with LabelStore(path, read_only=True) as store:
        there = {name for (name,) in store.database.rows("SELECT client FROM events")}
    lost = [name for name in acknowledged if name not in there]
    assert not lost, f"{len(lost)} acknowledged events are lost: {lost[:3]}"


def check(path: Path, annotators: Sequence[Annotator]) -> dict[str, int]:
    """The store against what was sent, and its tables against its events. Raises: AssertionError."""
    with LabelStore(path) as store:
        database = store.database
        assert database.rows("PRAGMA integrity_check") == [("ok",)]
        sent = {str(operation["client_id"]): operation for one in annotators for operation in one.sent}
        idle = {name for one in annotators for name in one.idle}
        rows = database.rows("SELECT client, kind, image, answers, annotator, undoes, event FROM events ORDER BY event")
        assert sorted(str(row[0]) for row in rows) == sorted(set(sent) - idle), "events are not what was sent, each once"
        standing: dict[object, tuple[object, ...]] = {}
        for client, kind, image, answers, annotator, undoes, event in rows:
            operation = sent[str(client)]
            assert kind == operation.get("kind", "undo")
            if kind == "undo":
                mine = [key for key, row in standing.items() if row[2] == annotator]
                assert undoes == max(mine), "an undo takes back the last act that stands"  # type: ignore[type-var]
                del standing[undoes]
                continue
            assert image == operation["image"] and (kind != "label" or _values(answers) == operation["values"])
            standing[event] = (image, answers, annotator, kind)
        expected: dict[tuple[object, object, int], object] = {}
        for image, answers, annotator, kind in standing.values():
            for label, value in enumerate(_values(answers), start=1) if kind != "skip" else ():
                expected[annotator, image, label] = value
        opinions = database.rows("SELECT annotator, image, label, value FROM opinions")
        assert {(who, image, label): value for who, image, label, value in opinions} == expected
    return {"sent": len(sent), "acknowledged": sum(len(one.acknowledged) for one in annotators), "events": len(rows)}


def _values(answers: object) -> list[object]:
    found = json.loads(str(answers))
    return [found.get(str(label)) for label in range(1, len(LABELS) + 1)]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    from benchmarks.outcome import circumstances, write

    before = circumstances()
    with tempfile.TemporaryDirectory() as made:
        found = run(Path(made), kills=asked.kills, seed=asked.seed)
    write("label_kills", [{**found, "lost": 0, "doubled": 0}], before)
