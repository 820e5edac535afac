"""The runs of the replay: every (family, method, seed) once, appended to a file of lines, from which the tables are made."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay_families import Family, Floats, family
from benchmarks.replay_methods import FOLDED, KNOWING, METHODS, RULES
from benchmarks.replay_peers import PEERS
from benchmarks.replay_training import Training

BUDGETS = (90, 180, 270, 360, 540, 720)  # epochs
PARTS = ("begun", "finished")  # the best config begun, and the best that ran to its end


@dataclass(frozen=True)
class Job:
    """One search to replay."""

    family: str
    method: str
    seed: int
    epochs: int


def replay(job: Job) -> dict[str, Any]:
    """One line: regrets per budget of what was begun, what was finished, and what each rule chooses (NaN: none yet)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    of, (limit, mark) = family(job.family), origin(job.family)
    method = (METHODS | KNOWING | FOLDED | PEERS)[job.method]
    found: dict[str, list[float]] = {name: [] for name in (*PARTS, *method.rules)}
    spent = zip(count(1), method.run(of, job.seed), strict=False)
    for epochs, begun in spent:
        if epochs in BUDGETS:
            regrets = _regrets(of, begun, limit)
            found["begun"].append(min(regrets.values()))
            found["finished"].append(min((regrets[id(item)] for item in begun if item.stop), default=float("nan")))
            for rule in method.rules:
                found[rule].append(regrets[id(RULES[rule](begun, of))])
        if epochs == job.epochs:
            break
    rounded = {name: [None if math.isnan(value) else round(value, 5) for value in values] for name, values in found.items()}
    return {"family": job.family, "mark": mark, "method": job.method, "seed": job.seed, "regrets": rounded}


@lru_cache(maxsize=16)
def origin(name: str) -> tuple[float, str]:
    """The family's limit, and a mark that changes with its curves."""
    of = family(name)
    points = np.random.default_rng(0).random((64, len(of.spec.space)))
    content = np.concatenate([of.expected(points).ravel(), of.luck.at(points).ravel()]).round(6)
    return of.limit(), hashlib.blake2b(content.tobytes(), digest_size=4).hexdigest()


def run(jobs: Iterable[Job], path: Path, *, workers: int) -> None:
    """Replays the jobs that the file lacks and appends each as it ends."""
    done = {(line["family"], line["mark"], line["method"], line["seed"]): line for line in lines(path)}
    todo = [job for job in jobs if not _is_done(job, done)]
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(todo)} searches to replay", flush=True)
    with path.open("a", encoding="utf-8") as file:
        if workers == 1:
            found: Iterable[dict[str, Any]] = map(replay, todo)
            _append(found, file)
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                _append(pool.map(replay, todo), file)


def lines(path: Path) -> list[dict[str, Any]]:
    """All lines of the file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def gathered(path: Path, families: Iterable[str]) -> dict[str, dict[tuple[str, str], dict[int, Floats]]]:
    """family -> (method, what) -> seed -> (budgets,) regrets of today's curves; the longest run of each counts."""
    found: dict[str, dict[tuple[str, str], dict[int, Floats]]] = {name: {} for name in families}
    for line in lines(path):
        if line["family"] in found and line["mark"] == origin(line["family"])[1]:
            for what, values in line["regrets"].items():
                seeds = found[line["family"]].setdefault((line["method"], what), {})
                if len(values) > len(seeds.get(line["seed"], ())):
                    seeds[line["seed"]] = np.array(values, dtype=float)
    return found


def _is_done(job: Job, done: dict[tuple[str, str, str, int], dict[str, Any]]) -> bool:
    line = done.get((job.family, origin(job.family)[1], job.method, job.seed))
    wanted = sum(budget <= job.epochs for budget in BUDGETS)
    return line is not None and len(line["regrets"]["begun"]) >= wanted


def _append(found: Iterable[dict[str, Any]], file: Any) -> None:
    for line in found:
        file.write(json.dumps(line) + "\n")
        file.flush()


def _regrets(of: Family, begun: list[Training], limit: float) -> dict[int, float]:
    """Of every training with an epoch, by its identity."""
    started = [item for item in begun if item.epoch]
    truths = of.truth(np.array([of.unit(item.config) for item in started]))
    return {id(item): float(truth) - limit for item, truth in zip(started, truths, strict=True)}
