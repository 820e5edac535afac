"""Real check of the recommendation: do real searches end with a better config by the model than by the best score?

    python -m benchmarks.real_choice --data DIR --weights DIR      8 searches on the stand-in radiographs, half an hour

Each search spends 180 epochs of real trainings (`replay_curves.py` says of what; no Ray), two at a time, with the shipped
sampler and scheduler. What each rule would choose of it is trained again with five fresh seeds; a config's value is its mean
best loss. The search itself is the same for both rules, so the difference is paired. An interrupted check goes on.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import replay_curves
from benchmarks.replay_curves import NAMES, RECORDINGS, SPACE
from benchmarks.replay_families import Family, Floats, Luck, best_under_patience
from benchmarks.replay_methods import RULES, Method, ours
from tune_btxrd.config import TrainConfig
from tune_btxrd.search.selection.interval import corrected_interval
from tune_btxrd.search.space.spec import SearchSpec

RESULTS = Path(__file__).parent / "results"
RECORDING = RECORDINGS["radiographs"]
EPOCHS, FRESH = 180, range(1000, 1005)  # of a search; seeds of the trainings that judge
COMPARED = ("model", "best", "last")


@dataclass
class Trainings:
    """Real trainings of the stand-in radiographs; each (config, seed) is done once and kept in a file of lines."""

    data: Path
    weights: Path
    work: Path
    known: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from tune_btxrd.training.slot import Slot

        self.work.mkdir(parents=True, exist_ok=True)
        self.images, self.slot = replay_curves.radiographs(self.work, RECORDING, self.data), Slot(device="cpu", threads=1)
        self.file = self.work / "real_choice.jsonl"
        for line in self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []:
            self.known[tuple(json.loads(line)["key"])] = json.loads(line)["losses"]

    def losses(self, values: Mapping[str, float], seed: int) -> list[float]:
        """Validation loss per epoch at full length; a diverged training stays at its worst."""
        key = (*(values[name] for name in NAMES), seed)
        if key not in self.known:
            config = TrainConfig.from_dict({**RECORDING.fixed, "weights": str(self.weights), **values, "seed": seed})
            found = [float(loss) for loss in replay_curves.trained_losses(self.slot, self.images, config) if loss != ""]
            self.known[key] = found + [max([*found, 10.0])] * (RECORDING.epochs - len(found))
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "losses": self.known[key]}) + "\n")
        return self.known[key]

    def judged(self, values: Mapping[str, float]) -> float:
        """Mean best loss over the fresh seeds."""
        return statistics.fmean(float(best_under_patience(np.array(self.losses(values, seed)))) for seed in FRESH)


@dataclass(frozen=True)
class RealFamily(Family):
    """A family whose curves are trained when they are asked for."""

    trainings: Trainings | None = None

    def curve(self, config: Mapping[str, Any], generator: np.random.Generator) -> list[float]:
        """All trials of a search have its seed."""
        assert self.trainings is not None
        return self.trainings.losses({name: float(config[name]) for name in NAMES}, self.spec.seed)


def search(trainings: Trainings, seed: int) -> dict[str, dict[str, float]]:
    """Rule -> the config that it chooses of one search."""
    spec = SearchSpec.load(SPACE).override({"confirm": 0, "trials": 100_000, "epochs": RECORDING.epochs}, {})
    empty = np.zeros((1, len(NAMES)))
    of = RealFamily("radiographs", RECORDING.epochs, _unknown, Luck(empty, empty[None]), spec, trainings=trainings)
    begun = next(itertools.islice(Method(ours, COMPARED).run(of, seed), EPOCHS - 1, None))
    return {rule: RULES[rule](begun, of).config for rule in COMPARED}


def _unknown(points: Floats) -> Floats:
    raise NotImplementedError("What a real training is expected to reach is not known.")


def page(found: list[dict[str, float]]) -> str:
    """The table: mean fresh loss of what each rule chose, search by search, and the paired differences."""
    lines = ["# Real check of the recommendation", "", *str(__doc__).strip().split("\n\n")[-1].splitlines(), ""]
    lines += [f"| search | {' | '.join(COMPARED)} |", f"| --- |{' --- |' * len(COMPARED)}"]
    lines += [f"| {at} | {' | '.join(f'{row[rule]:.4f}' for rule in COMPARED)} |" for at, row in enumerate(found)]
    means = [statistics.fmean(row[rule] for row in found) for rule in COMPARED]
    lines += [f"| mean | {' | '.join(f'{mean:.4f}' for mean in means)} |", ""]
    for rule in COMPARED[1:]:
        apart = [row["model"] - row[rule] for row in found]
        gain = corrected_interval(apart, val_share=0.0)  # searches are independent
        told = f"model less {rule}: {gain.mean:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}; "
        lines += [told + f"they chose the same config in {sum(value == 0 for value in apart)} of {len(apart)} searches", ""]
    return "\n".join(lines)


def main() -> None:
    """Reads the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs, in BTXRD layout")
    parser.add_argument("--weights", type=Path, required=True, help="folder with weights of tf_efficientnet_lite0")
    parser.add_argument("--searches", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("replay_work"), help="folder for cache and trainings")
    flags = parser.parse_args()
    trainings, found = Trainings(flags.data, flags.weights, flags.work), []
    for seed in range(flags.searches):
        chosen = search(trainings, seed)
        found.append({rule: trainings.judged(config) for rule, config in chosen.items()})
        print(f"search {seed}: " + ", ".join(f"{rule} {value:.4f}" for rule, value in found[-1].items()), flush=True)
    (RESULTS / "real_choice.md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
