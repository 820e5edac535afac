"""Does the phantom earn its keep? No shortcut within a center, learnable, center harder than stratified, lr matters.

python -m benchmarks.phantom_check shortcuts   (about five minutes on 2 CPU cores, most of them to draw 12,000 images)
python -m benchmarks.phantom_check volumes     (about two minutes: heads of the volume phantom, the same question)
python -m benchmarks.phantom_check network     (about 20 trainings; hours on 2 CPU cores, minutes on a GPU)

`shortcuts`: within each center, can age, gender, view, image size or the intensity of the whole image tell the classes?
One-against-rest AUC of boosted trees and of logistic regression, five-fold, patients kept together; every one <= 0.60.
`volumes`: can the size of a head, of its lesion or of its file, or the histogram of a contrast, tell the grades? With as few
heads as these the AUC of noise has a standard error of 0.03, which is said beside it.
`network`: the default network from random weights on the stratified and the center split and at three learning rates.
Writes benchmarks/results/phantom_<part>.json.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.cache import ImageCache, build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.data.phantom.cases import VIEWS, Case, plan_cases
from tune_btxrd.data.phantom.heads import CORE, GRADES, RIM, SWOLLEN, Head, draw_head, plan_heads
from tune_btxrd.data.phantom.picture import draw_picture
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.splits import make_split

RESULTS = Path(__file__).parent / "results"
LARGEST_AUC = 0.60
DRAWN = 4_000  # images of each center, of a plan large enough to hold so many of center 3: enough Normals to measure an AUC
GAIN = 0.25  # macro-F1 above the majority class
LRS = (1e-5, 1e-3, 1e-2)
BEST_LR = 1e-3


def phantom(spec: PhantomSpec, folder: Path) -> tuple[Path, Manifest]:
    """The phantom of this spec in `folder`, drawn if it is not there."""
    root = folder / spec.name
    make_phantom(root, spec)
    return root, read_dataset(root, dataset="phantom")


def tones(case: Case, *, seed: int) -> list[float]:
    """Mean, deviation and percentiles of a whole image."""
    grey = np.asarray(draw_picture(case, seed=seed).image.convert("L"), dtype=float)
    return [grey.mean(), grey.std(), *np.percentile(grey, [1, 5, 10, 25, 50, 75, 90, 95, 99])]


def drawn_features(cases: list[Case], *, seed: int) -> dict[str, np.ndarray]:
    """The tones of each image, alone and with all that table and file size say."""
    with ProcessPoolExecutor() as pool:
        intensity = np.array(list(pool.map(partial(tones, seed=seed), cases, chunksize=20)))
    known = [(c.width, c.height, c.patient.age, c.patient.gender == "M", *(c.view == view for view in VIEWS)) for c in cases]
    return {"intensity": intensity, "all of it": np.column_stack([intensity, np.array(known, dtype=float)])}


def shortcut_aucs(
    values: np.ndarray, targets: np.ndarray, groups: np.ndarray, names: Sequence[str] = ("Normal", "Benign", "Malignant")
) -> dict[str, float]:
    """Class -> the larger AUC of two classifiers, out of fold, one class against the rest."""
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(values, targets, groups))
    aucs = {}
    for target, name in enumerate(names):
        truth = (targets == target).astype(int)
        scores = []
        for model in (
            HistGradientBoostingClassifier(max_iter=60, max_depth=3, learning_rate=0.08, random_state=0),
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        ):
            out = cross_val_predict(model, values, truth, cv=folds, method="predict_proba")[:, 1]
            scores.append(float(roc_auc_score(truth, out)))
        aucs[name] = max(scores)
    return aucs


def planned_features(cases: list[Case]) -> dict[str, np.ndarray]:
    """What is decided before anything is drawn."""
    people = [case.patient for case in cases]
    named = {
        "age and gender": np.array([(person.age, person.gender == "M") for person in people], dtype=float),
        "view": np.array([[case.view == view for view in VIEWS] for case in cases], dtype=float),
        "image size": np.array([(case.width, case.height, case.width / case.height) for case in cases]),
    }
    return {**named, "these together": np.hstack(list(named.values()))}


def check_shortcuts(spec: PhantomSpec) -> dict[str, Any]:
    """Every feature set in every center, of its first DRAWN cases of a large plan; prints one line each."""
    plan = plan_cases(spec.count, size=spec.size, seed=spec.seed)
    found, worst = {}, 0.0
    for center in sorted({case.patient.center for case in plan}):
        cases = [case for case in plan if case.patient.center == center][:DRAWN]
        targets, groups = (np.array([getattr(c.patient, name) for c in cases]) for name in ("target", "number"))
        for name, values in (planned_features(cases) | drawn_features(cases, seed=spec.seed)).items():
            aucs = shortcut_aucs(values, targets, groups)
            worst = max(worst, *aucs.values())
            found[f"{name}, center {center}"] = {"images": len(cases), **aucs}
            print(f"center {center}  {name:15s}", *(f"{k} {v:.3f}" for k, v in aucs.items()), flush=True)
    print(f"largest AUC {worst:.3f}, allowed {LARGEST_AUC}: {'holds' if worst <= LARGEST_AUC else 'BROKEN'}")
    return {"spec": spec.name, "images_per_center": DRAWN, "largest_auc": worst, "auc": found}


def head_features(head: Head, *, size: int, seed: int) -> dict[str, list[float]]:
    """What could tell a grade without a look at the lesion's arrangement."""
    drawn = draw_head(head, size=size, seed=seed)
    inside = drawn.contrasts["t1"] > 0
    sizes = [float(inside.sum()), *(float((drawn.mask == value).sum()) for value in (CORE, RIM, SWOLLEN))]
    packed = [float(len(zlib.compress(voxels.tobytes()))) for voxels in drawn.contrasts.values()]
    found = {"sizes": sizes, "file size": packed}
    for name, voxels in drawn.contrasts.items():
        values = voxels[inside] / voxels[inside].mean()
        found[name] = [float(values.std()), *np.percentile(values, [1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9])]
    return found


def check_volumes(spec: PhantomSpec) -> dict[str, Any]:
    """Every feature set, alone and together; prints one line each."""
    heads = plan_heads(spec.count, seed=spec.seed)
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(partial(head_features, size=spec.size, seed=spec.seed), heads, chunksize=8))
    sets = {name: np.array([row[name] for row in drawn]) for name in drawn[0]}
    sets["these together"] = np.hstack(list(sets.values()))
    targets, alone = np.array([GRADES.index(head.grade) for head in heads]), np.arange(len(heads))
    counts = np.bincount(targets)
    error = float(np.sqrt((len(heads) + 1) / (12 * counts[0] * counts[1])))  # of an AUC of 0.5
    aucs = {name: shortcut_aucs(values, targets, alone, GRADES[:1])[GRADES[0]] for name, values in sets.items()}
    for name, auc in aucs.items():
        print(f"{name:15s} {auc:.3f}", flush=True)
    worst, allowed = max(aucs.values()), 0.5 + 3 * error
    print(f"largest AUC {worst:.3f}, allowed {allowed:.3f}: {'holds' if worst <= allowed else 'BROKEN'}")
    return {"spec": spec.name, "heads": len(heads), "standard_error": error, "largest_auc": worst, "auc": aucs}


def score(config: TrainConfig, manifest: Manifest, cache: ImageCache, split_name: str, slot: Any) -> dict[str, float]:
    """One training: val loss of its best epoch, macro-F1 of that epoch's model on val and of the last model on test."""
    import torch

    from tune_btxrd.tasks.multiclass import confusion, macro_f1
    from tune_btxrd.training.loop import predict, train
    from tune_btxrd.training.pixels import TrainingData

    split = make_split(split_name, manifest, pairs=[], groups="patients")
    rows = {part: cache.rows(ids) for part, ids in split.parts.items()}
    targets = manifest.targets[manifest.rows(cache.image_ids)]
    data = TrainingData(
        images=cache.images,
        targets=targets,
        train_rows=rows["train"],
        val_rows=rows["val"],
        num_classes=3,
        positive_class=manifest.positive_class,
    )
    state = slot.start(config, data, keep_best=False)
    began = time.perf_counter()
    history = list(train(state))
    test = torch.tensor(rows["test"], device=state.device)
    logits = predict(state.model, state.pixels, test, mean=state.mean, std=state.std, precision=state.precision)
    guessed = logits.cpu().numpy().argmax(axis=1)
    best = min(history, key=lambda row: row.val_loss)
    return {
        "val_loss": best.val_loss,
        "val_macro_f1": best.val_macro_f1,
        "test_macro_f1": macro_f1(confusion(targets[rows["test"]], guessed, 3)),
        "test_majority_macro_f1": majority_macro_f1(targets[rows["test"]]),
        "epochs": float(len(history)),
        "seconds": time.perf_counter() - began,
    }


def majority_macro_f1(targets: np.ndarray) -> float:
    """Macro-F1 of naming the largest class always."""
    share = np.bincount(targets).max() / len(targets)
    return float(2 * share / (1 + share) / 3)


def check_network(spec: PhantomSpec, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All trainings in turn; prints each, then the claims."""
    from tune_btxrd.training.slot import Slot

    _, manifest = phantom(spec, folder)
    hashes = file_hashes(manifest, cache_dir=folder)
    cache = build_cache(manifest, image_size=arguments.image_size, cache_dir=folder, hashes=hashes)
    slot = Slot(device=arguments.device, threads=arguments.threads)
    notes = (
        folder / f"runs-{spec.name}-{arguments.image_size}px-{arguments.epochs}epochs.jsonl"
    )  # an interrupted check goes on
    runs = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    done = {(run["split"], run["lr"], run["seed"]) for run in runs}
    jobs = [(split, BEST_LR, seed) for seed in range(arguments.seeds) for split in ("stratified", "center")]
    jobs += [("stratified", lr, seed) for seed in range(arguments.seeds) for lr in LRS if lr != BEST_LR]
    for split_name, lr, seed in jobs:
        config = TrainConfig(
            lr=lr,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            image_size=arguments.image_size,
            pretrained=False,
            patience=arguments.epochs,
            seed=42 + seed,
        )
        if (split_name, lr, config.seed) in done:
            continue
        found = score(config, manifest, cache, split_name, slot)
        runs.append({"split": split_name, "lr": lr, "seed": config.seed, **found})
        with notes.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(*(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in runs[-1].items()), flush=True)
    return {
        "spec": spec.name,
        "settings": {**vars(arguments), "folder": str(spec.name)},
        "runs": runs,
        "claims": claims(runs),
    }


def claims(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Claim -> difference of means, its standard error over seeds, and their ratio; printed."""
    frame = pd.DataFrame(runs)

    def of(split: str, lr: float, column: str) -> pd.Series:
        return frame[(frame["split"] == split) & (frame["lr"] == lr)][column]

    best = of("stratified", BEST_LR, "test_macro_f1")
    pairs = {
        "stratified test macro-F1 over majority": (best, of("stratified", BEST_LR, "test_majority_macro_f1")),
        "stratified over center, test macro-F1": (best, of("center", BEST_LR, "test_macro_f1")),
    }
    for lr in (lr for lr in LRS if lr != BEST_LR):
        losses = of("stratified", lr, "val_loss"), of("stratified", BEST_LR, "val_loss")
        pairs[f"val_loss of lr {lr:g} over lr {BEST_LR:g}"] = losses
        pairs[f"val macro-F1 of lr {BEST_LR:g} over lr {lr:g}"] = (
            of("stratified", BEST_LR, "val_macro_f1"),
            of("stratified", lr, "val_macro_f1"),
        )
    found = {}
    for name, (high, low) in pairs.items():
        gap = float(high.mean() - low.mean())
        error = float(np.hypot(high.sem(), low.sem())) if len(high) > 1 else float("nan")
        found[name] = {"high": float(high.mean()), "low": float(low.mean()), "gap": gap, "standard_error": error}
        print(f"{name}: {high.mean():.3f} - {low.mean():.3f} = {gap:.3f} +- {error:.3f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("shortcuts", "volumes", "network"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "phantom_check")
    parser.add_argument("--count", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    counts = {"shortcuts": 60_000, "volumes": 600, "network": 1500}
    sizes = {"shortcuts": 128, "volumes": 48, "network": 384}  # intensities need no large images
    shape = (arguments.count or counts[arguments.part], arguments.size or sizes[arguments.part], 1)
    spec = PhantomSpec(*shape, kind="volumes" if arguments.part == "volumes" else "images")
    checks = {"shortcuts": check_shortcuts, "volumes": check_volumes}
    part = checks.get(arguments.part)
    found = part(spec) if part else check_network(spec, arguments.folder, arguments)
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "numpy": np.__version__}
    (RESULTS / f"phantom_{arguments.part}.json").write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
