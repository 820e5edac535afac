"""Two processes write at once and are killed in mid-write: what was acknowledged is there, once, and nothing is half."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.label_stores import make_store
from tests.support.paths import ROOT
from tune_btxrd.labels.store import LabelStore

WRITER = """
import sys
from pathlib import Path
from tune_btxrd.labels.records import Act
from tune_btxrd.labels.store import LabelStore

store, name = LabelStore(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
for number in range(100_000):
    for asked in store.next_images(name, count=4)[:1]:
        client = f"{name}-{number}"
        act = Act(kind="label", image=asked.image.number, annotator=name, client=client, arm=asked.arm, answers={"Mass": 1})
        store.record(act)
        print(client, flush=True)
    if number % 5 == 4:
        store.undo(name, client=f"{name}-undo-{number}")
        print(f"{name}-undo-{number}", flush=True)
"""
ROUNDS = 4


def test_no_acknowledged_event_is_lost_or_doubled(tmp_path: Path) -> None:
    make_store(tmp_path, images=60).close()
    path, acknowledged, dice = tmp_path / "store.db", [], random.Random(0)
    for round_ in range(ROUNDS):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"w{round_}{side}"], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            for side in "ab"
        ]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.05, 0.6))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            acknowledged += [line.strip() for line in writer.communicate()[0].splitlines()]
    with LabelStore(path) as store:
        assert store.database.rows("PRAGMA integrity_check") == [("ok",)]
        clients = [event.client for event in store.history(limit=1_000_000)]
        assert len(clients) == len(set(clients)) and set(acknowledged) <= set(clients)
        assert len(clients) <= len(acknowledged) + 2 * ROUNDS  # at most one each that was not yet acknowledged
        assert len(acknowledged) >= ROUNDS
        numbers = [event.number for event in reversed(store.history(limit=1_000_000))]
        assert numbers == sorted(numbers)
