"""Replays recorded and made curves through searches: which one finds good configs with few epochs, and chooses them?

    python -m benchmarks.replay record phantom                                          trains what the table lacks
    python -m benchmarks.replay record radiographs --data DIR --weights DIR             one hour of one core each
    python -m benchmarks.replay run [--seeds 30] [--families smooth noisy] [--methods "asha, tpe"] [--epochs 720]
    python -m benchmarks.replay show                                                    tables and pictures of what was run

Regret: the expected best loss of the chosen config less the lowest of the space, both over all luck (`replay_families.py`).
It has parts: what the best config begun lacks, and what the choice loses of it. Every method spends the same epochs, two
trainings at a time. Runs are kept in a file of lines and never done twice.
"""

import argparse
from pathlib import Path

from benchmarks import replay_curves
from benchmarks.replay_curves import RECORDINGS, has_luck, recorded
from benchmarks.replay_families import NAMES, family
from benchmarks.replay_methods import FOLDED, KNOWING, METHODS
from benchmarks.replay_peers import PEERS, missing
from benchmarks.replay_report import (
    Entry,
    Values,
    differences,
    draw,
    draw_parts,
    lost_cells,
    parts_table,
    ratios,
    regret_table,
    worst_losses,
)
from benchmarks.replay_runs import BUDGETS, PARTS, Job, gathered, origin, run

RESULTS = Path(__file__).parent / "results"
RUNS = Path("replay_work/runs.jsonl")
OWN: Entry = ("promote, tpe", "model")  # what ships
SHOWN_PARTS = 360
JUDGED = (180, 360, 720)  # budgets at which methods are counted


def show(families: list[str], runs: Path) -> None:
    """Writes the page of tables and the pictures."""
    found = {name: values for name, values in gathered(runs, families).items() if values}
    everyone = METHODS | PEERS
    entries = [(name, rule) for name, method in everyone.items() for rule in method.rules]
    usual = [(name, method.rules[0]) for name, method in everyone.items()]
    pages = ["# Replay", "", __doc__.split("\n\n")[-1].strip(), ""]
    pages += ["## Worst loss against the best method of a family (at which family, which method)", ""]
    pages += [*worst_losses(found, entries), ""]
    pages += ["## Cells beyond two standard errors of the best method of their family, paired by seed", ""]
    pages += [*lost_cells(found, entries, JUDGED), ""]
    for name, values in found.items():
        pages += _family_pages(name, {entry: values[entry] for entry in _ordered(values)}, usual)
    left_out = [reason for name in PEERS if (reason := missing(name))]
    left_out += [f"{name}: {recorded(item)}" for name, item in RECORDINGS.items() if not has_luck(item)]
    pages += ["## Left out here", "", *(f"- {reason}" for reason in left_out or ["none"]), ""]
    (RESULTS / "replay.md").write_text("\n".join(pages), encoding="utf-8")
    draw(found, [*usual, (OWN[0], "ended")], RESULTS / "replay.png")
    draw_parts(found, entries, RESULTS / "replay_parts.png", budget=SHOWN_PARTS)
    print("\n".join(pages[: 8 + len(entries)]))


def _family_pages(name: str, values: Values, usual: list[Entry]) -> list[str]:
    of, source = family(name), name.partition(",")[0]
    facts = f"{of.epochs} epochs a training; limit {origin(name)[0]:.4f}; {of.crossings():.0%} of pairs change order after "
    facts += f"epoch 4; luck of one training's best loss {of.luck_of_best():.4f}"
    facts += f"; {recorded(RECORDINGS[source])}" if source in RECORDINGS else ""
    pages = [f"## {name}", "", facts, "", *regret_table(values, PARTS), ""]
    pages += [*parts_table(values, SHOWN_PARTS), ""]
    if OWN in values:
        pages += [f"Regret of {', '.join(OWN)} less that of (* beyond two standard errors):", ""]
        others = [*usual, *((OWN[0], rule) for rule in METHODS[OWN[0]].rules)]
        pages += [*differences(values, OWN, others), "", f"Epochs to the regret of {', '.join(OWN)}, as a multiple:", ""]
        pages += [*ratios(values, OWN, others), ""]
        knowing = [(method, OWN[1]) for method in KNOWING if (method, OWN[1]) in values]
        if knowing:
            pages += [f"Starting knowledge: regret of {', '.join(OWN)} without any less that with it:", ""]
            pages += [*differences(values, OWN, knowing), ""]
    return pages


def _ordered(values: Values) -> list[Entry]:
    order = list(METHODS | KNOWING | FOLDED | PEERS)
    return sorted(values, key=lambda entry: order.index(entry[0]))


def _jobs(families: list[str], methods: list[str], *, seeds: int, epochs: int) -> list[Job]:
    """Seeds outermost, so that a run cut short has all methods and families."""
    known = [name for name in methods if name not in PEERS or not missing(name)]
    return [Job(name, method, seed, epochs) for seed in range(seeds) for name in families for method in known]


def main() -> None:
    """Reads the command."""
    ready = [name for name in NAMES if (source := name.partition(",")[0]) not in RECORDINGS or has_luck(RECORDINGS[source])]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="train the curves that a table lacks")
    record.add_argument("table", choices=list(RECORDINGS))
    record.add_argument("--repeats", type=int, default=replay_curves.REPEATS)
    record.add_argument("--data", type=Path, help="folder of the radiographs, in BTXRD layout")
    record.add_argument("--weights", type=Path, help="folder with weights of tf_efficientnet_lite0")
    record.add_argument("--work", type=Path, default=Path("replay_work"), help="folder for phantom and cache")
    for verb, meaning in (("run", "replay searches, then show"), ("show", "tables and pictures of what was run")):
        own = verbs.add_parser(verb, help=meaning)
        own.add_argument("--families", nargs="+", choices=NAMES, default=ready)
        own.add_argument("--runs", type=Path, default=RUNS, help="file of lines")
        if verb == "run":
            own.add_argument(
                "--methods",
                nargs="+",
                choices=[*METHODS, *KNOWING, *FOLDED, *PEERS],
                default=[*METHODS, *KNOWING, *PEERS],
            )
            own.add_argument("--seeds", type=int, default=30)
            own.add_argument("--epochs", type=int, choices=BUDGETS, default=max(BUDGETS), help="of each search")
            own.add_argument("--workers", type=int, default=1)
    flags = parser.parse_args()
    if flags.verb == "record":
        recording = RECORDINGS[flags.table]
        if recording.needs_data and not (flags.data and flags.weights):
            parser.error(f"record {recording.name} needs --data and --weights")
        data, weights = (flags.data, flags.weights) if recording.needs_data else (None, None)
        count = recording.configs
        replay_curves.record(
            recording, configs=count, repeated=count, repeats=flags.repeats, work=flags.work, data=data, weights=weights
        )
        return
    if flags.verb == "run":
        run(_jobs(flags.families, flags.methods, seeds=flags.seeds, epochs=flags.epochs), flags.runs, workers=flags.workers)
    show(flags.families, flags.runs)


if __name__ == "__main__":
    main()
