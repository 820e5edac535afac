"""Tables and pictures of the replay: regret, its parts, paired differences, epochs to equal regret, worst losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.replay_families import Floats, family
from benchmarks.replay_runs import BUDGETS, origin

Values = Mapping[tuple[str, str], Mapping[int, Floats]]  # (method, what) -> seed -> regrets
Found = Mapping[str, Values]  # of each family
Entry = tuple[str, str]  # method, rule
DRAWS = 1000  # bootstrap
FEWEST = 3  # seeds, below which a method is not compared with all


def matrix(seeds: Mapping[int, Floats], numbers: Sequence[int], length: int) -> Floats:
    """(seeds, length) regrets of these seeds."""
    return np.array([seeds[number][:length] for number in numbers])


def regret_table(found: Values, parts: Sequence[str]) -> list[str]:
    """Markdown: mean regret and standard error per method, rule and budget."""
    rows = [f"| method, rule | seeds | {' | '.join(map(str, BUDGETS))} |", "| --- " * (len(BUDGETS) + 2) + "|"]
    for (method, what), seeds in found.items():
        if what not in parts:
            cells = [_cell(seeds, k) for k in range(len(BUDGETS))]
            rows.append(f"| {method}: {what} | {len(seeds)} | {' | '.join(cells)} |")
    return rows


def parts_table(found: Values, budget: int) -> list[str]:
    """Markdown: mean regret of the best config begun, the best finished, and the chosen one, after so many epochs."""
    k = BUDGETS.index(budget)
    rows = [f"| method after {budget} epochs | begun | finished | chosen |", "| --- | --- | --- | --- |"]
    for method in dict.fromkeys(name for name, _ in found):
        chosen = [f"{what} {_cell(found[method, what], k)}" for name, what in found if name == method]
        begun, finished = (_cell(found[method, part], k) for part in ("begun", "finished"))
        rows.append(f"| {method} | {begun} | {finished} | {', '.join(chosen[2:])} |")
    return rows


def differences(found: Values, own: Entry, others: Sequence[Entry]) -> list[str]:
    """Markdown: own regret less another's on the same seeds, mean +- standard error; negative: ours is lower."""
    rows = [f"| less | {' | '.join(map(str, BUDGETS))} |", "| --- " * (len(BUDGETS) + 1) + "|"]
    for other in others:
        if other in found and other != own:
            cells = [_paired(found[own], found[other], k) for k in range(len(BUDGETS))]
            rows.append(f"| {', '.join(other)} | {' | '.join(cells)} |")
    return rows


def worst_losses(found: Found, entries: Sequence[Entry]) -> list[str]:
    """Markdown: per entry and budget, the most by which its mean regret exceeds the best entry's of a family, in which."""
    rows = [f"| method, rule | {' | '.join(map(str, BUDGETS))} |", "| --- " * (len(BUDGETS) + 1) + "|"]
    found = {name: {e: seeds for e, seeds in values.items() if len(seeds) >= FEWEST} for name, values in found.items()}
    for entry in entries:
        if not any(entry in values for values in found.values()):
            continue
        cells = []
        for k in range(len(BUDGETS)):
            losses = [(_against_best(found[name], entry, entries, k), name) for name in found if entry in found[name]]
            known = [(loss, name) for loss, name in losses if loss is not None]
            (mean, error, best), name = max(known, default=((np.nan, np.nan, entry), ""))
            cells.append(f"{mean:.3f} +- {error:.3f} ({name}, {best[0]})" if name and mean > 0 else "0" if name else "")
        rows.append(f"| {': '.join(entry)} | {' | '.join(cells)} |")
    return rows


def lost_cells(found: Found, entries: Sequence[Entry], budgets: Sequence[int]) -> list[str]:
    """Markdown: in how many cells (family and budget) an entry is beyond two standard errors of the family's best one."""
    rows = [f"| method, rule | cells lost at {', '.join(map(str, budgets))} epochs | where |", "| --- | --- | --- |"]
    counted = []
    for entry in entries:
        cells = [
            (name, budget, _against_best(values, entry, entries, BUDGETS.index(budget)))
            for name, values in found.items()
            for budget in budgets
        ]
        known = [(name, budget, against) for name, budget, against in cells if against is not None]
        lost = [(name, budget) for name, budget, (mean, error, _) in known if mean > 2 * error > 0]
        if len({name for name, _, _ in known}) == len(found):  # a method that was not run everywhere is not compared
            where = ", ".join(f"{name} {budget}" for name, budget in lost)
            counted.append((len(lost), f"| {': '.join(entry)} | {len(lost)} of {len(known)} | {where} |"))
    return rows + [row for _, row in sorted(counted)]


def ratios(found: Values, own: Entry, others: Sequence[Entry]) -> list[str]:
    """Markdown: epochs that another needs for our mean regret, as a multiple of ours; 95 % bootstrap interval over seeds."""
    rows = [f"| epochs of | {' | '.join(map(str, BUDGETS))} |", "| --- " * (len(BUDGETS) + 1) + "|"]
    generator = np.random.default_rng(0)
    for other in others:
        if other not in found or other == own:
            continue
        numbers, length = _common(found[own], found[other])
        if not numbers:
            continue
        mine, theirs = (matrix(found[entry], numbers, length) for entry in (own, other))
        draws = generator.integers(len(numbers), size=(DRAWS, len(numbers)))
        cells = []
        for k in range(length):
            point = ratio(mine.mean(axis=0), theirs.mean(axis=0), k)
            many = [ratio(mine[rows_].mean(axis=0), theirs[rows_].mean(axis=0), k) for rows_ in draws]
            cells.append(_interval(point, many, k, length))
        rows.append(f"| {', '.join(other)} | {' | '.join(cells + [''] * (len(BUDGETS) - length))} |")
    return rows


def ratio(mine: Floats, theirs: Floats, k: int) -> float:
    """Epochs at which `theirs` first comes down to mine[k], by lines in log epochs, over BUDGETS[k]; inf: never."""
    lowest = np.minimum.accumulate(theirs)
    if lowest[0] <= mine[k]:
        return BUDGETS[0] / BUDGETS[k]  # at most
    if lowest[-1] > mine[k]:
        return float("inf")
    at = int(np.argmax(lowest <= mine[k]))
    share = (lowest[at - 1] - mine[k]) / (lowest[at - 1] - lowest[at])
    logs = np.log(BUDGETS)
    return float(np.exp(logs[at - 1] + share * (logs[at] - logs[at - 1])) / BUDGETS[k])


def _cells(found: Found) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a cell for each family that has runs."""
    names, columns = [name for name in found if found[name]], 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(15, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for cell in axes.flat[len(names) :]:
        cell.set_axis_off()
    return figure, dict(zip(names, axes.flat, strict=False))


def draw(found: Found, entries: Sequence[Entry], path: Path) -> None:
    """Regret against epochs per family, log-log; the dotted line is the hand-made config."""
    figure, cells = _cells(found)
    for name, cell in cells.items():
        of = family(name)
        hand_made = float(of.truth(of.unit(of.spec.start[0])[None])[0]) - origin(name)[0]
        cell.axhline(hand_made, color="0.5", ls=":", lw=1, label="hand-made config")
        for number, entry in enumerate(entries):
            if len(found[name].get(entry, ())) >= FEWEST:
                length = min(map(len, found[name][entry].values()))
                values = np.array([regrets[:length] for regrets in found[name][entry].values()])
                own = entry[1] in ("model", "best", "ended") and entry[0].startswith(("asha", "promote"))
                error = values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
                style = {
                    "lw": 2 if own else 1,
                    "ls": "-" if own else "--",
                    "color": mpl.color_sequences["tab20"][number % 20],
                }
                cell.errorbar(BUDGETS[:length], values.mean(axis=0), error, label=": ".join(entry), capsize=2, **style)
        cell.set(xscale="log", yscale="log", title=f"{name} (limit {origin(name)[0]:.3f})", xlabel="epochs", ylabel="regret")
        cell.set_xticks(BUDGETS, list(map(str, BUDGETS)))
        cell.minorticks_off()
    handles: dict[str, Any] = {}
    for cell in cells.values():
        handles |= dict(zip(*reversed(cell.get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=90)


def draw_parts(found: Found, entries: Sequence[Entry], path: Path, *, budget: int = 360) -> None:
    """Where the regret arises, per family: before the best config was begun, until it was finished, by the choice."""
    k, (figure, cells) = BUDGETS.index(budget), _cells(found)
    for name, cell in cells.items():
        there = [entry for entry in entries if len(_known(found[name].get(entry, {}), k)) >= FEWEST]
        labels = [": ".join(entry) for entry in there]
        begun, chosen = (
            np.array([_known(found[name][method, part or rule], k).mean() for method, rule in there])
            for part in ("begun", "")
        )
        cell.barh(labels, begun, color="C0", label="best config not begun")
        cell.barh(labels, chosen - begun, left=begun, color="C1", label="begun, not chosen")
        cell.set(title=f"{name}, {budget} epochs", xlabel="regret")
        cell.invert_yaxis()
        cell.tick_params(axis="y", labelsize=7)
    handles, words = next(iter(cells.values())).get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=90)


def _known(seeds: Mapping[int, Floats], k: int) -> Floats:
    """Regrets at budget k of the seeds that have one."""
    values = np.array([regrets[k] for regrets in seeds.values() if len(regrets) > k], dtype=float)
    return np.asarray(values[~np.isnan(values)])


def _cell(seeds: Mapping[int, Floats], k: int) -> str:
    values = _known(seeds, k)
    if not values.size:
        return ""
    error = f" +- {values.std(ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}"


def _common(first: Mapping[int, Floats], second: Mapping[int, Floats]) -> tuple[list[int], int]:
    """Seeds that both have, and the budgets that both reached."""
    numbers = sorted(set(first) & set(second))
    return numbers, min((min(len(first[n]), len(second[n])) for n in numbers), default=0)


def paired(first: Mapping[int, Floats], second: Mapping[int, Floats], k: int) -> tuple[float, float]:
    """Mean of first less second at budget k on common seeds, and its standard error; NaN without two."""
    numbers = [n for n in sorted(set(first) & set(second)) if min(len(first[n]), len(second[n])) > k]
    gaps = np.array([first[n][k] - second[n][k] for n in numbers], dtype=float)
    if len(gaps) < 2:
        return float("nan"), float("nan")
    return float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5)


def _paired(first: Mapping[int, Floats], second: Mapping[int, Floats], k: int) -> str:
    mean, error = paired(first, second, k)
    mark = " *" if abs(mean) > 2 * error > 0 else ""
    return "" if np.isnan(mean) else f"{mean:+.4f} +- {error:.4f}{mark}"


def _against_best(found: Values, entry: Entry, entries: Sequence[Entry], k: int) -> tuple[float, float, Entry] | None:
    there = [other for other in entries if other in found and _known(found[other], k).size]
    if entry not in there:
        return None
    best = min(there, key=lambda other: _known(found[other], k).mean())
    return (0.0, 0.0, best) if best == entry else (*paired(found[entry], found[best], k), best)


def _interval(point: float, many: Sequence[float], k: int, length: int) -> str:
    """A ratio in words; beyond the longest budget only its bound is known."""
    most = BUDGETS[length - 1] / BUDGETS[k]

    def text(value: float) -> str:
        return f">{most:.1f}" if np.isinf(value) else f"{value:.2f}"

    low, high = (float(value) for value in np.quantile(many, (0.025, 0.975), method="nearest"))
    return f"{text(point)} [{text(low)}, {text(high)}]"
