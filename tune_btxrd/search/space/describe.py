"""A search space in words, with samples: what `space FILE` prints. Pure functions that return lines."""

from collections.abc import Collection

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.monitor import WORST_CENTER
from tune_btxrd.search.budget import confirm_epochs, expected_epochs
from tune_btxrd.search.cost import epoch_costs
from tune_btxrd.search.record import HAND_MADE_NUMBER
from tune_btxrd.search.rungs import paused_at_most, rung_epochs
from tune_btxrd.search.space.effects import space_notes
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials

SAMPLERS = {
    "tpe": "TPE (multivariate, grouped, constant liar), random for the first {startup_trials} trials",
    "gp": "a Gaussian process, random for the first {startup_trials} trials",
    "random": "random proposals",
}
RECOMMENDERS = {
    "model": "a model of all trials, also of those that were stopped; its value counts as one repeat more for the winner",
    "best": "the best score of a trial that ran to its end; the winner by the mean of its repeats",
}


def explain(spec: SearchSpec, *, samples: int = 5) -> list[str]:
    """What the search does, what it searches, and some random configs of its space, one line each."""
    notes = space_notes(spec)
    return [
        *_plan(spec),
        "",
        *_space(spec),
        "",
        *(["notes", *(f"  {n}" for n in notes), ""] if notes else []),
        *_samples(spec, samples),
    ]


def _plan(spec: SearchSpec) -> list[str]:
    stops = ", ".join(map(str, rung_epochs(spec)))
    share = f"the best 1 in {spec.reduction_factor:g} goes on"
    scheduler = {
        "asha": f"ASHA compares at epoch {stops}: {share}",
        "promote": f"trials pause at epoch {stops}: {share}; {kept_line(spec)}",
        "none": "",
    }[spec.scheduler if stops else "none"] or "no rung: every trial runs to its end"
    confirmed = (
        f"the top {spec.confirm} and the hand-made config, {spec.repeats} times each: {confirm_epochs(spec)} epochs at most"
        if spec.confirm
        else "none: the search score of the winner is flattered by luck, and nobody will know by how much"
    )
    return [
        f"search        {spec.trials} trials of up to {spec.epochs} epochs, about {expected_epochs(spec):.0f} epochs in all",
        *([f"folds         {spec.judged_by}; an epoch counts once per fold"] if spec.judged_by else []),
        *_size_lines(spec),
        f"objective     best {spec.monitor} so far{_of_worst(spec)}, {spec.monitored.better} is better",
        f"sampler       {SAMPLERS[spec.sampler].format(startup_trials=spec.startup_trials)}{_random_share(spec)}",
        f"scheduler     {scheduler}",
        f"confirmation  {confirmed}",
        f"ranked by     {RECOMMENDERS[spec.recommend]}",
        *[f"constraint    {item}" for item in spec.constraint],
        f"seed          {spec.seed}",
    ]


def _of_worst(spec: SearchSpec) -> str:
    return " at the validation center where it is worst" if spec.objective == WORST_CENTER else ""


def _size_lines(spec: SearchSpec) -> list[str]:
    """What an epoch costs at each image size, where several are searched."""
    costs = epoch_costs(spec).by_size
    told = ", ".join(f"{cost:.2f} at {size} px" for size, cost in costs.items())
    return [f"image sizes   an epoch costs {told} (by pixels)"] if len(costs) > 1 else []


def _random_share(spec: SearchSpec) -> str:
    return f", then {100 * spec.random_share:.0f} % of them" if spec.random_share else ""


def kept_line(spec: SearchSpec) -> str:
    """How many checkpoints of paused trials there may be at once."""
    return f"at most {paused_at_most(spec)} paused trials keep their checkpoints"


def _space(spec: SearchSpec) -> list[str]:
    width = max(len(name) for name in [*(item.name for item in spec.space), *spec.fixed])
    searched = [f"  {item.name:<{width}}  {item.describe()}   ({FIELDS[item.name].meaning})" for item in spec.space]
    fixed = [f"  {name:<{width}}  {value}   ({FIELDS[name].meaning})" for name, value in spec.fixed.items()]
    whose = {HAND_MADE_NUMBER: " (hand-made)"}
    starts = [
        f"  trial {number}{whose.get(number, '')}: {_values(spec, spec.complete(values), values)}"
        for number, values in enumerate(spec.start)
    ]
    return ["searched", *searched, *(["fixed", *fixed] if fixed else []), "first trials", *starts]


def _samples(spec: SearchSpec, count: int) -> list[str]:
    lines = []
    for trial in blind_trials(spec, count):
        config = spec.suggest(trial)
        lines.append(f"  {_values(spec, config, trial.params)}")
    return [f"{count} random samples", *lines]


def _values(spec: SearchSpec, config: TrainConfig, asked: Collection[str]) -> str:
    names = [item.name for item in spec.space if item.name in asked]
    return "  ".join(f"{name}={_short(getattr(config, name))}" for name in names)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
