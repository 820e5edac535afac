"""What tests read back of TensorBoard's and MLflow's records."""

import struct
from collections import defaultdict
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
