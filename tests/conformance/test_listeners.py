"""Conformance of listeners: whatever a search tells them, they keep its record as it is and never end it.

A new listener is run through them by a line in LISTENERS: a function that makes it for a search as it begins.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.reports import StubSearch, make_settings
from tune_btxrd.distributed.listeners.cleanup import CheckpointKeeper
from tune_btxrd.distributed.listeners.prometheus import Gauges
from tune_btxrd.distributed.listeners.tensorboard import EventFiles
from tune_btxrd.distributed.listeners.wandb import WandbRuns
from tune_btxrd.monitor import MONITORS
from tune_btxrd.pipeline.live_view import SearchProgress
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, apply_event, read_search
from tune_btxrd.search.space.spec import SearchSpec

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")  # Ray's own

CLASSES = ("Größe $x$", "[b]?", "名前 {0}")
RECALL = "val_recall_"
LISTENERS: dict[str, Callable[[SearchRecord, SearchSpec, str], Listener]] = {
    "base": lambda record, spec, recall: Listener(),
    "cleanup": lambda record, spec, recall: CheckpointKeeper(record.folder / "checkpoints", record),
    "prometheus": lambda record, spec, recall: Gauges(record, monitor=MONITORS[spec.monitor], recall=recall, slots=4),
    "tensorboard": lambda record, spec, recall: EventFiles(record),
    "wandb": lambda record, spec, recall: WandbRuns("p", record, spec),
    "live view": lambda record, spec, recall: SearchProgress(spec, positive_class=CLASSES[-1], recall=recall, asked=0.0),
}
CALLS = {"start": "started", "epoch": "epoch", "note": "noted", "end": "ended"}


@pytest.fixture(params=sorted(LISTENERS))
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "wandb":
        pytest.importorskip("wandb", reason="W&B is an extra: pip install wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
    return str(request.param)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> StubSearch:
    """A search with trials that end in every way, confirmed."""
    folder = tmp_path_factory.mktemp("listeners") / "Röntgen [b] $x"
    made = StubSearch(folder, make_settings(folder, name=folder.name, classes=CLASSES)).search(16).confirm()
    made.write()
    return made


def play(stub: StubSearch, make: Callable[[SearchRecord, SearchSpec, str], Listener]) -> SearchRecord:
    """The whole search told to the listener, every trial started twice, as after a lost process."""
    record = read_search(stub.folder)
    events = [json.loads(line) for line in (stub.folder / "journal.jsonl").read_text().splitlines()]
    record.trials.clear()
    record.sessions.clear()
    listener = make(record, stub.spec, stub.recalls[-1])
    for event in events:
        apply_event(record, event)
        if event["event"] in CALLS:
            trial = record.trials[event["trial"]]
            getattr(listener, CALLS[event["event"]])(trial)
            if event["event"] == "epoch" and event["epoch"] == 2:
                listener.paused(trial)
                listener.started(trial)
            if event["event"] == "start":
                apply_event(record, {**event, "event": "note", "text": "failed, tried again from its checkpoint: [/x] $ %s"})
                listener.noted(trial)
                listener.started(trial)
    close(listener)
    return record


def close(listener: Listener) -> None:
    """Ends a listener that has something to end; trackers are told whether the search has finished."""
    if isinstance(listener, WandbRuns):
        listener.close(finished=True)
    elif hasattr(listener, "close"):
        listener.close()


def test_it_hears_a_whole_search_and_leaves_its_record_as_it_is(name: str, stub: StubSearch) -> None:
    states = {trial.state for trial in read_search(stub.folder).trials.values()}
    assert {"complete", "pruned", "diverged", "failed"} <= states
    heard, alone = play(stub, LISTENERS[name]), play(stub, lambda *_: Listener())
    assert heard.trials == alone.trials and heard.sessions == alone.sessions


def test_it_goes_on_with_a_search_that_is_half_done(name: str, stub: StubSearch) -> None:
    record = read_search(stub.folder)
    before = copy.deepcopy(record.trials)
    listener = LISTENERS[name](record, stub.spec, stub.recalls[-1])
    last = max(record.trials.values(), key=lambda trial: trial.started)
    for call in ("started", "noted", "paused", "ended"):
        if (call != "noted" or last.notes) and (call != "paused" or last.epochs):
            getattr(listener, call)(last)
    close(listener)
    assert record.trials == before


def test_every_call_is_one_of_the_base_class(name: str, tmp_path: Path, stub: StubSearch) -> None:
    listener = LISTENERS[name](read_search(stub.folder), stub.spec, stub.recalls[-1])
    assert isinstance(listener, Listener)
    close(listener)
    assert {"started", "epoch", "noted", "ended"} <= {item for item in dir(listener) if not item.startswith("_")}
