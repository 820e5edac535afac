"""What tests read back of TensorBoard's, MLflow's and W&B's records."""

import json
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def read_events(folder: Path) -> list[Any]:
    """The events of a TensorBoard run: records of length (8 bytes), its checksum (4), content, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return events


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalar -> (step, value) in the order of writing."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in read_events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag].append((event.step, value.simple_value))
    return found


def mlflow_runs(uri: str) -> tuple[Any, dict[str, Any], Any]:
    """The one parent run of a store, its children by trial, and MLflow's client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tune_btxrd")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == len(runs) - 1
    return parents[0], {run.data.tags["tune_btxrd.trial"]: run for run in children}, client


@dataclass
class WandbRun:
    """A run as it lies offline: what W&B's own sync would send."""

    kinds: set[str] = field(default_factory=set)  # of records
    folder: str = ""
    host: str = ""
    name: str = ""
    group: str = ""
    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    preempted: bool = False


def wandb_runs(folder: Path) -> dict[str, WandbRun]:
    """What ids end with (`search`, or a trial's label) -> the run, of a results folder."""
    found: dict[str, WandbRun] = {}
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        label = path.stem.rpartition("-")[2]
        assert label not in found, "an id has one run"
        found[label] = _wandb_run(path)
    return found


def _wandb_run(path: Path) -> WandbRun:
    from wandb.proto.wandb_internal_pb2 import Record

    run = WandbRun(folder=path.parent.name)
    for content in _log_records(path.read_bytes()[7:]):
        record = Record.FromString(content)
        kind = record.WhichOneof("record_type")
        run.kinds.add(str(kind))
        if kind == "run":
            run.host = record.run.host
            run.name, run.group, run.kind = record.run.display_name, record.run.run_group, record.run.job_type
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            run.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
            run.history[-1]["step"] = record.history.step.num
        elif kind == "summary":
            run.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
        elif kind == "preempting":
            run.preempted = True
    return run


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _log_records(content: bytes) -> list[bytes]:
    """LevelDB's log: blocks of 32 KiB, with the file's own 7 bytes, of records: checksum (4 bytes), length (2), kind (1)."""
    records, at, part = [], 0, b""
    while at + 7 <= len(content):
        left = 32768 - (at + 7) % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            records.append(part)
            part = b""
    return records
