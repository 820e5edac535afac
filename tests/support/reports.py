"""Made-up searches on disk for the report and the live view: a journal written by hand, no Ray, no training."""

import heapq
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.request import DataRequest
from tune_btxrd.evaluation.openings import log_opening
from tune_btxrd.results.search_json import DatasetFacts, Layout, SearchFlags, SearchSettings, SpaceRequest
from tune_btxrd.search.columns import recall_columns
from tune_btxrd.search.record import read_search
from tune_btxrd.search.selection.winner import ranking
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source

SPACE = """
trials: {trials}
epochs: 27
grace_period: 3
reduction_factor: 3
confirm: 2
repeats: 3
space:
  lr: {{low: 1.0e-5, high: 1.0e-2, log: true}}
  dropout: {{low: 0.0, high: 0.5}}
  weight_decay: {{low: 1.0e-6, high: 1.0e-1, log: true}}
start:
  - {{lr: 1.0e-3, dropout: 0.2, weight_decay: 1.0e-4}}
"""
CLASSES = ("Normal", "Benign", "Malignant")
HOSTILE = "<script>alert('x')</script>"
DIVERGES, FAILS = 3, 13  # the first such trials; then every 50th and every 70th
BEGAN = 1_790_000_000.0
EPOCH_SECONDS = 60.0


def make_settings(
    folder: Path, *, name: str = "stub", classes: tuple[str, ...] = CLASSES, trials: int = 24, task: str = "multiclass"
) -> SearchSettings:
    """`search.json`, `space.yaml` and a small `audit.json` of a made-up search."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = SearchSettings(
        name=name,
        kind="search",
        dataset=DatasetFacts(name="phantom", path="/nowhere", sha256="ab" * 32, images=360),
        request=DataRequest(),
        source=Source(cache="/nowhere", splits="/nowhere", class_names=classes, positive_class=len(classes) - 1, task=task),
        space=SpaceRequest(file=Path("stub.yaml")),
        splits={"stratified": "stratified", "center": "center"},
        searched="common",
        val_ratio=0.2,
        device="cpu",
        image_size=64,
        layout=Layout(slots=4, cpus=1.0, gpus=0.0, threads=1, epoch_seconds=EPOCH_SECONDS),
        checkpoints=folder.parent / "checkpoints" / name,
        flags=SearchFlags(leak={"stratified": 0, "center": 0}),
    )
    settings.save(folder)
    (folder / "space.yaml").write_text(SPACE.format(trials=trials))
    finding = {
        "finding": f"shortcut: {classes[0]}",
        "where": "all",
        "strength": "strong: AUC 0.99",
        "meaning": "m",
        "cure": "c",
    }
    audit = {"images": 360, "class_counts": dict.fromkeys(classes, 120), "class_by_center": {}, "findings": [finding]}
    (folder / "audit.json").write_text(json.dumps(audit))
    return settings


class StubSearch:
    """Plays a search of four slots by ASHA's rule and writes its journal; every number follows from the seed."""

    def __init__(self, folder: Path, settings: SearchSettings, *, slots: int = 4, seed: int = 0) -> None:
        self.folder, self.slots, self.settings = folder, slots, settings
        self.spec: SearchSpec = settings.spec(folder)
        self.recalls = recall_columns(settings.source.class_names)
        self.rng = np.random.default_rng(seed)
        self.lines: list[dict[str, Any]] = []
        self.rungs: dict[float, dict[str, float]] = {3.0: {}, 9.0: {}, 27.0: {}}
        self.free = [(BEGAN, slot) for slot in range(slots)]
        self._tell("session", BEGAN, slots=slots)

    def search(self, trials: int, *, odd: bool = True) -> "StubSearch":
        """`trials` trials; with `odd`, some diverge and some fail."""
        queue: list[tuple[float, int, Any]] = []
        order = itertools.count()
        numbers = iter(range(trials))
        for _ in range(min(self.slots, trials)):
            self._begin(next(numbers), queue, order, odd=odd)
        while queue:
            _time, _order, steps = heapq.heappop(queue)
            following = next(steps, None)
            if following is not None:
                heapq.heappush(queue, (following, next(order), steps))
            elif (number := next(numbers, None)) is not None:
                self._begin(number, queue, order, odd=odd)
        return self

    def confirm(self) -> "StubSearch":
        """Repeats of the top configs and the hand-made one."""
        self.write()
        confirmed = ranking(read_search(self.folder), self.spec).confirmed
        for number, (repeat, trial) in enumerate(itertools.product(range(1, self.spec.repeats + 1), confirmed)):
            label = f"{trial.number}r{repeat}"
            time, slot = heapq.heappop(self.free)
            start = {"number": number, "role": "confirm", "config": trial.config, "params": trial.params}
            self._tell("start", time, trial=label, **start, of=trial.number, repeat=repeat)
            rows = self._rows(trial.params, slot, time + 2, self.spec.epochs)
            rows[-1]["stop"] = "budget"
            self._epochs(label, rows)
            self._tell("end", rows[-1]["time"], trial=label, state="complete", reason="ran its full budget")
            heapq.heappush(self.free, (rows[-1]["time"], slot))
        return self

    def write(self, *, lines: int | None = None, half: str = "") -> Path:
        """`journal.jsonl`, or its first `lines` lines and a half-written one."""
        ordered = sorted(self.lines, key=lambda line: line["time"])[:lines]
        (self.folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ordered) + half)
        return self.folder

    def _begin(self, number: int, queue: list[tuple[float, int, Any]], order: Any, *, odd: bool) -> None:
        time, slot = heapq.heappop(self.free)
        heapq.heappush(queue, (time, next(order), self._play(number, time, slot, odd=odd)))

    def _play(self, number: int, time: float, slot: int, *, odd: bool) -> Any:
        """Yields the time of each epoch as it happens, so that rungs see trials in the order of time."""
        params = dict(self.spec.start[0]) if number in (0, DIVERGES) else self._draw()
        label, end = str(number), time + 1
        config = TrainConfig(epochs=self.spec.epochs, pretrained=False, **params).to_dict()
        self._tell("start", time, trial=label, number=number, role="search", config=config, params=params)
        if odd and number % 70 == FAILS:
            self._end(label, slot, end, "failed", f"RuntimeError: out of memory {HOSTILE}")
            return
        rows = self._rows(params, slot, time + 2, 4 if odd and number % 50 == DIVERGES else self.spec.epochs)
        for row in rows:
            yield row["time"]
            end = row["time"]
            if row is rows[-1] and len(rows) == self.spec.epochs:
                row["stop"] = "budget"
            self._epochs(label, [row])
            if not row["stop"] and self._is_cut(label, row):
                self._end(label, slot, end, "pruned", f"stopped by ASHA at epoch {row['epoch']}")
                return
        if len(rows) < self.spec.epochs:
            self._end(label, slot, end, "diverged", "train loss is nan at epoch 5 with lr 0.01")
        else:
            self._end(label, slot, end, "complete", "ran its full budget")

    def _is_cut(self, label: str, row: dict[str, Any]) -> bool:
        for rung, known in reversed(self.rungs.items()):
            if row["epoch"] >= rung and label not in known:
                limit = np.percentile(list(known.values()), 100 / 3) if known else math.inf
                known[label] = row["objective"]
                return bool(row["objective"] > limit)
        return False

    def _draw(self) -> dict[str, float]:
        lr, decay = 10 ** self.rng.uniform(-5, -2), 10 ** self.rng.uniform(-6, -1)
        return {"lr": float(lr), "dropout": float(self.rng.uniform(0, 0.5)), "weight_decay": float(decay)}

    def _rows(self, params: dict[str, Any], slot: int, time: float, epochs: int) -> list[dict[str, Any]]:
        floor = 0.6 + 0.25 * abs(math.log10(params["lr"]) + 3.3) + float(self.rng.normal(0, 0.02))
        rows: list[dict[str, Any]] = []
        for epoch in range(1, epochs + 1):
            loss = floor + 0.9 * math.exp(-epoch / 5) + float(self.rng.normal(0, 0.015))
            improved = not rows or loss < rows[-1]["objective"]
            rows.append(
                {
                    "time": round(time + epoch * EPOCH_SECONDS, 3),
                    "epoch": epoch,
                    "train_loss": loss - 0.1,
                    "val_loss": loss,
                    "val_acc": 0.5,
                    **dict.fromkeys(self.recalls, 0.5),
                    self.recalls[-1]: float(np.clip(1.3 - floor + self.rng.normal(0, 0.1), 0, 1)),
                    "lr": params["lr"],
                    "val_macro_f1": 0.5,
                    "val_macro_auc": 0.5,
                    "lr_backbone": 1e-3,
                    "stage": 1,
                    "objective": loss if improved else rows[-1]["objective"],
                    "improved": improved,
                    "stop": "",
                    "zero_recall_epochs": 0,
                    "images_per_second": 30.0,
                    "train_seconds": 0.9 * EPOCH_SECONDS,
                    "val_seconds": 0.05 * EPOCH_SECONDS,
                    "slot": f"vm:{slot}",
                }
            )
        return rows

    def _epochs(self, label: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._tell("epoch", row["time"], trial=label, **{k: v for k, v in row.items() if k != "time"})

    def _end(self, label: str, slot: int, time: float, state: str, reason: str) -> None:
        self._tell("end", time, trial=label, state=state, reason=reason)
        heapq.heappush(self.free, (time, slot))

    def _tell(self, event: str, time: float, **content: Any) -> None:
        self.lines.append({"event": event, "time": time, **content})


def make_search(folder: Path, *, trials: int = 24, odd: bool = True, **settings: Any) -> Path:
    """A finished search with its confirmation."""
    made = make_settings(folder, trials=trials, **settings)
    return StubSearch(folder, made).search(trials, odd=odd).confirm().write()


def make_checkpoints(root: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Training logs of a final job on two splits: the winner's val loss is lowest at epoch 4, the hand-made one's at 6."""
    for split, role, best in itertools.product(("stratified", "center"), ("", "hand_made"), (4,)):
        epochs = np.arange(1, 9)
        loss = 0.8 + 0.05 * np.abs(epochs - (6 if role else best)) + (0.1 if role else 0.0)
        log = pd.DataFrame({"epoch": epochs, "train_loss": loss, "val_loss": loss, "val_acc": 0.5})
        for column in recall_columns(classes):
            log[column] = 0.25
        objective = np.minimum.accumulate(loss)
        log = log.assign(lr=1e-3, objective=objective, improved=loss <= objective, stop="", zero_recall_epochs=0)
        folder = root / split / role
        folder.mkdir(parents=True, exist_ok=True)
        log.to_csv(folder / "training_log.csv", index=False)
    return root


def make_evaluation(checkpoints: Path, *, split: str = "stratified", opened: int = 1) -> None:
    """What `evaluate` leaves of a split: its log of openings, its tables and notes."""
    folder = checkpoints / split / "evaluation"
    for _ in range(opened):
        log_opening(folder, split=split, split_sha256="", checkpoints={}, images=54)
    bounds = {"bootstrap_low": 0.4, "bootstrap_high": 0.75}
    scores = [
        {"model": model, "metric": metric, "class": name, "value": value, **bounds}
        for metric, name in (("accuracy", ""), ("auc", "Benign"), ("auc", "Malignant"), ("brier", ""))
        for model, value in (("winner", 0.625), ("hand-made", math.nan if name else 0.5))
    ]
    scores.append(
        {"model": "winner", "metric": "ppv", "class": "Benign", "value": math.nan}
    )  # undefined, without an interval
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    difference = {"metric": "accuracy", "class": "", "difference": 0.125, "bootstrap_low": -0.25, "bootstrap_high": 0.5}
    pd.DataFrame([difference]).to_csv(folder / "differences.csv", index=False)
    notes = ["The test part of 'stratified' has been opened once for this search.", f"Bootstrap: 2000 draws {HOSTILE}"]
    (folder / "summary.json").write_text(json.dumps({"notes": notes}))
