"""Does searching for the worst center, or with augmentations of scanners, raise the score at a center that nobody saw?

python -m benchmarks.unseen_center             (about 20 minutes on one core)
python -m benchmarks.unseen_center --minutes 4 (a part of it; the same command again goes on where it stopped)

One center of the dataset is left out whole. A search sees the others: a few configs (the first is hand-made, the others are
random, the same in every arm but for what is compared), each trained to the end. It keeps the epoch of the trial with the
best monitored value, as a search without confirmation does; that model is then scored on the center that was left out.
Baseline: macro-AUC over all validation images, without scanners. The arms of a seed share partition, configs and training
seeds, so differences are paired.

Phantom: 1,400 images, whose centers differ in tone, blur, grain and collimation by design. Stand-in: real chest radiographs
(`../shared/data/xray_standin`). Two of its centers have every class, so without one of them a single one is left to search
on: the worst center cannot be asked for there, as the search itself would say.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.outcome import ROOT, circumstances, markdown, write_text
from benchmarks.split_data import split_data
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.cache import ImageCache, build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import duplicate_pairs, group_numbers
from tune_btxrd.data.splits.splits import repartition
from tune_btxrd.search.selection.interval import corrected_interval
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials
from tune_btxrd.tasks.centers import counted
from tune_btxrd.tasks.multiclass import macro_auc
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.loop import predict, train_epoch
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot

SEEDS, SIDE, VAL_SHARE = 5, 64, 0.3
STANDIN = ROOT.parent / "shared" / "data" / "xray_standin"
WEIGHTS = ROOT.parent / "shared" / "data" / "weights"
SCANNERS = ("border", "blur", "gamma", "equalize", "invert")
SPACE = """
trials: 1
seed: {seed}
monitor: macro_auc
space:
  lr: {{low: 1.0e-4, high: 1.0e-2, log: true}}
  dropout: {{low: 0.0, high: 0.5}}
  weight_decay: {{low: 1.0e-6, high: 1.0e-2, log: true}}
  border: {{low: 0.0, high: 0.2}}
  blur: {{low: 0.0, high: 0.03}}
  gamma: {{low: 0.0, high: 1.0}}
  equalize: {{low: 0.0, high: 0.5}}
  invert: {{low: 0.0, high: 0.5}}
start:
  - {{lr: 1.0e-3, dropout: 0.2, weight_decay: 1.0e-4, border: 0.1, blur: 0.01, gamma: 0.3, equalize: 0.2, invert: 0.2}}
"""
PLAIN, WORST = "all images", "worst center"
ARMS = [(False, PLAIN), (False, WORST), (True, PLAIN), (True, WORST)]
Piece = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A dataset and the center that is left out; how long and with what is trained."""

    name: str
    unseen: str
    trials: int
    epochs: int
    fixed: Mapping[str, Any]


PHANTOM = {"backbone": "test_efficientnet", "pretrained": False, "batch_size": 16}
LITE = {"backbone": "tf_efficientnet_lite0", "weights": str(WEIGHTS), "pretrained": False, "batch_size": 16}
CASES = (
    Case("phantom", "3", trials=4, epochs=12, fixed=PHANTOM),
    Case("stand-in", "2", trials=4, epochs=4, fixed=LITE),
)


def opened(case: Case, work: Path) -> tuple[Manifest, ImageCache]:
    """The dataset and its decoded images; what is there stays."""
    root = STANDIN
    if case.name == "phantom":
        root = work / "phantom"
        make_phantom(root, PhantomSpec(count=1400, size=128, seed=1))
    manifest = read_dataset(root, dataset=case.name.replace("-", ""))
    return manifest, build_cache(manifest, image_size=SIDE, cache_dir=work, hashes=file_hashes(manifest, cache_dir=work))


def configs(case: Case, seed: int, *, scanners: bool) -> Iterator[TrainConfig]:
    """The configs of a search; without scanners the same ones with these switched off."""
    spec = SearchSpec.from_text(SPACE.format(seed=1000 + seed))
    fixed = {**case.fixed, "image_size": SIDE, "epochs": case.epochs, "patience": case.epochs, "seed": seed}
    off = {} if scanners else dict.fromkeys(SCANNERS, 0.0)
    drawn = [spec.hand_made, *(spec.suggest(trial) for trial in blind_trials(spec, case.trials - 1))]
    names = [dimension.name for dimension in spec.space]
    for config in drawn:
        values = {name: getattr(config, name) for name in names}
        yield TrainConfig.from_dict({**values, **off, **fixed, "monitor": "macro_auc"})


def seen_data(case: Case, manifest: Manifest, cache: ImageCache, seed: int) -> tuple[TrainingData, np.ndarray]:
    """What the search trains and validates on, and the rows of the center that it never sees."""
    centers = np.array(manifest.centers)
    ids = np.array(manifest.image_ids)
    numbers = group_numbers(manifest, duplicate_pairs({}, manifest.image_ids), "duplicates")
    split = repartition(
        manifest,
        ids[centers != case.unseen].tolist(),
        numbers=np.asarray(numbers),
        val_share=VAL_SHARE,
        seed=seed,
        even_centers=True,
    )
    names = sorted(set(centers.tolist()))
    own = np.full(len(cache.image_ids), -1, dtype=np.int64)
    own[cache.rows(manifest.image_ids)] = [names.index(name) for name in centers]
    data = dataclasses.replace(split_data(cache, manifest, split), centers=own, num_centers=len(names))
    return data, cache.rows(ids[centers == case.unseen].tolist())


def trained(slot: Slot, config: TrainConfig, data: TrainingData, unseen: np.ndarray) -> Iterator[tuple[EpochMetrics, float]]:
    """Each epoch's record, and the macro-AUC at the center that was left out."""
    import torch

    state, rows = slot.start(config, data, keep_best=False), torch.from_numpy(unseen)
    while not state.finished:
        row = train_epoch(state)
        logits = predict(state.model, state.pixels, rows, mean=state.mean, std=state.std, precision=state.precision)
        yield row, macro_auc(logits.numpy(), data.targets[unseen])


def piece(case: Case, work: Path, seed: int, *, scanners: bool) -> Piece:
    """One search: what each objective would have kept, and what that scores at the center that was left out."""
    manifest, cache = opened(case, work)
    data, unseen = seen_data(case, manifest, cache, seed)
    slot, told = Slot(device="cpu", threads=1), list[tuple[EpochMetrics, float]]()
    for config in configs(case, seed, scanners=scanners):
        told += trained(slot, config, data, unseen)
    val_targets = data.targets[data.val_rows]
    known = counted(data.task, "macro_auc", val_targets, data.val_centers, count=data.num_centers, classes=data.num_classes)
    found: Piece = {"case": case.name, "seed": seed, "scanners": scanners, "highest": max(score for _, score in told)}
    kept = max(told, key=lambda item: vars(item[0])["val_macro_auc"])
    found[PLAIN] = {"seen": vars(kept[0])["val_macro_auc"], "unseen": kept[1]}
    if known.sum() > 1:
        kept = max(told, key=lambda item: item[0].val_worst_center or 0.0)
        found[WORST] = {"seen": kept[0].val_worst_center, "unseen": kept[1]}
    return found


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % t-interval over seeds."""
    found = corrected_interval(list(values), val_share=0.0)  # seeds are independent
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def table(done: Sequence[Piece]) -> list[dict[str, str]]:
    """Per case and arm: the score at the center that was left out, and its difference from the baseline, paired by seed."""
    rows = []
    for case in CASES:
        for scanners, objective in ARMS:
            of_case = {(item["seed"], item["scanners"]): item for item in done if item["case"] == case.name}
            seeds = sorted({seed for seed, _ in of_case if {(seed, False), (seed, True)} <= of_case.keys()})
            if len(seeds) < 2:  # no interval yet
                continue
            label = {"data": f"{case.name}, without center {case.unseen}", "seeds": str(len(seeds)), "searched": objective}
            label["scanners"] = "yes" if scanners else "no"
            if any(objective not in of_case[seed, scanners] for seed in seeds):
                rows.append({**label, "at the unseen center": "refused: one center has every class"})
                continue
            own = [of_case[seed, scanners][objective] for seed in seeds]
            base = [of_case[seed, False][PLAIN] for seed in seeds]
            gains = [mine["unseen"] - theirs["unseen"] for mine, theirs in zip(own, base, strict=True)]
            rows.append(
                {
                    **label,
                    "at the centers seen": f"{statistics.fmean(item['seen'] for item in own):.3f}",
                    "at the unseen center": f"{statistics.fmean(item['unseen'] for item in own):.3f}",
                    "difference": "baseline" if not scanners and objective == PLAIN else interval(gains),
                    "best that any epoch had": f"{statistics.fmean(of_case[s, scanners]['highest'] for s in seeds):.3f}",
                }
            )
    return rows


def measure(work: Path, minutes: float, only: str | None = None) -> list[Piece]:
    """Runs the searches that are not there yet, of one case or of all; what is there when all are or the time is up."""
    path, began = work / "pieces.jsonl", time.monotonic()
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    plan = [(case, seed, scanners) for seed in range(SEEDS) for case in CASES for scanners in (False, True)]
    for case, seed, scanners in plan:
        known = any((item["case"], item["seed"], item["scanners"]) == (case.name, seed, scanners) for item in done)
        if known or only not in (None, case.name):
            continue
        if time.monotonic() - began > 60 * minutes:
            break
        done.append(piece(case, work, seed, scanners=scanners))
        print(f"{time.monotonic() - began:.0f} s: {done[-1]}", flush=True)
        with path.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no new piece after so long")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="this one alone; several may run side by side")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "unseen-center")
    options = parser.parse_args()
    found = circumstances()
    options.work.mkdir(exist_ok=True)
    done = measure(options.work, options.minutes, options.case)
    if len(done) < 2 * SEEDS * len(CASES):
        print(f"{len(done)} of {2 * SEEDS * len(CASES)} searches are there: the same command again goes on.")
    rows = table(done)
    print(markdown(rows))
    write_text("unseen_center", markdown(rows) + "\n", {**found, "table": rows, "pieces": done})


if __name__ == "__main__":
    main()
