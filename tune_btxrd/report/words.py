"""Sentences of the report. Every number that matters stands here or in a table, not only in a picture."""

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict, cast

from tune_btxrd.errors import shell_command, shell_word
from tune_btxrd.monitor import Monitor
from tune_btxrd.report.gather import Material, Training
from tune_btxrd.report.image_sizes import size_rows, sizes_line
from tune_btxrd.report.importance import UNDETERMINED, Importances
from tune_btxrd.report.landscape import Landscape
from tune_btxrd.results.checkpoints import HAND_MADE, WINNER
from tune_btxrd.results.summary import selection_lines
from tune_btxrd.search.budget import minutes
from tune_btxrd.search.record import states_line
from tune_btxrd.search.selection.recommendation import best_by_rule
from tune_btxrd.search.selection.winner import pareto_front
from tune_btxrd.tasks.record import shown
from tune_btxrd.tasks.registry import task_named


class NotedEnvironment(TypedDict, total=False):
    """`environment` of `search.json`; an earlier version may have noted less."""

    created: str
    command: list[str]
    tune_btxrd: str
    git_commit: str | None
    python: str
    platform: str
    packages: dict[str, str]


WORK_WORDS = {
    "training": "training",
    "validation": "validation",
    "start": "start-up",
    "between": "saving and waiting between epochs",
    "idle": "idle",
}


def headlines(material: Material) -> list[str]:
    """The winner's scores on the test parts, once they are known: they come before everything else."""
    return [f"{part.split}, test part: {part.headline}." for part in material.opened_parts if part.headline]


def summary_lines(material: Material) -> list[str]:
    """The result of search and final job in words: the winner and what it is worth on validation."""
    lines = []
    if material.selection and material.spec:
        lines += selection_lines(material.selection, material.spec)
    else:
        lines.append(f"No winner yet. {material.no_winner}" if material.spec else material.no_winner)
        if material.spec and (best := best_by_rule(material.record.search_trials, material.spec)):
            lines.append(f"Best so far: {best.words}, not confirmed.")
    lines += [final_line(material, split) for split in dict.fromkeys(t.split for t in material.trainings)]
    lines += [line for listed in material.averages for line in listed.lines()]
    return [*lines, *material.fold_lines]


def final_line(material: Material, split: str) -> str:
    """One split of the final job: the winner's best epoch beside the hand-made config's."""
    mine = [t for t in material.trainings if t.split == split]
    first = {t.role: t for t in reversed(mine) if t.seed is None}
    winner, hand_made = first.get(WINNER), first.get(HAND_MADE)
    if winner is None:
        return f"{split}: the winner's training is not at hand."
    monitor, recall = material.monitor, f"{material.positive_class} recall {_recall(winner, material.recall)}"
    line = f"{split}, validation: {monitor.label} {_score(winner, monitor)}, {recall}"
    if hand_made is not None:
        line += f" (hand-made config: {_score(hand_made, monitor)}, {_recall(hand_made, material.recall)})"
    seeds = sum(t.role == WINNER for t in mine)
    return line + (f"; first of {seeds} seeds." if seeds > 1 else "; one training each, so a difference may be luck.")


def _score(training: Training, monitor: Monitor) -> str:
    return f"{float(training.best[monitor.column]):.4f}"


def _recall(training: Training, column: str) -> str:
    return shown(float(training.best[column]), 2)


def trials_line(material: Material) -> str:
    """How many trials ended how."""
    trials, repeats = material.record.search_trials, len(material.record.confirmations)
    unneeded = len(material.selection.unneeded) if material.selection else 0
    more = f"; {repeats} confirmation trials{f', {unneeded} of them not needed' if unneeded else ''}." if repeats else "."
    return f"{len(trials)} trials: {states_line(trials)}{more}"


def warning_lines(material: Material) -> list[str]:
    """What a reader must know before believing a score."""
    flags = material.settings.flags
    lines = [f"{part.split}, test part: {warning}" for part in material.opened_parts for warning in part.warnings]
    lines += [f"Split {name} was skipped: {reason}" for name, reason in flags.skipped.items()]
    lines += [f"{name}: config chosen on {count} images of this test part." for name, count in flags.leak.items() if count]
    for training in material.trainings:
        if (training.log["zero_recall_epochs"].astype(int) >= 2).any():
            count = int(training.log["zero_recall_epochs"].astype(int).max())
            lines.append(
                f"{training.split}, {training.title}: {count} epochs in a row found no {material.positive_class} image."
            )
    lines += [
        f"{part.split}: its test part has been opened {part.opened} times; "
        "a choice made by its scores would make them too good."
        for part in material.opened_parts
        if part.opened > 1
    ]
    return [*lines, *material.gaps]


def test_lines(material: Material) -> list[str]:
    """Which test parts were opened, how often, and what must be known beside their scores."""
    if material.spec is None and not material.opened_parts:
        return []
    if not material.opened_parts:
        return ["No test part has been opened: `evaluate` scores the winner there, once all choices are made."]
    lines = []
    for part in material.opened_parts:
        times = "once" if part.opened == 1 else f"{part.opened} times"
        scored = "" if part.rows else "; the scoring did not come to its end"
        lines.append(f"{part.split}: {part.images:,} test images, opened {times}{scored}.")
    notes = [(part.split, note) for part in material.opened_parts for note in part.notes]
    return lines + [f"{split}: {note}" for split, note in notes if not note.startswith("The test part of")]


def cut_line(material: Material) -> str:
    """Who was cut where."""
    assert material.spec
    if material.spec.scheduler == "none":
        return "No trial was stopped early: the search had no scheduler."
    cut = Counter(visit.epoch for visit in material.visits if visit.cut)
    if not cut:
        return "ASHA stopped no trial."
    promotes = material.spec.scheduler == "promote"
    told = ", ".join(f"{count} at epoch {epoch}" for epoch, count in sorted(cut.items()))
    total = len(material.record.search_trials)
    did, those = ("left paused", "all that reached the rung") if promotes else ("stopped", "those at the rung before it")
    return f"ASHA {did} {sum(cut.values())} of {total} trials: {told}. A trial went on where it was among the best " + (
        f"1 in {material.spec.reduction_factor:g} of {those}."
    )


def importance_line(found: Importances) -> str:
    """What the trials say about hyperparameters, or that they say nothing."""
    if found.why:
        return found.why
    sure = [item for item in found.items if item.verdict != UNDETERMINED]
    told = [f"{item.name} {item.verdict} ({item.value:.0%} [{item.low:.0%}, {item.high:.0%}])" for item in sure]
    unsure = [item.name for item in found.items if item.verdict == UNDETERMINED]
    if unsure:
        told.append(f"undetermined for {', '.join(unsure)}")
    return f"From {found.trials} trials: {'; '.join(told)}."


def landscape_line(found: Landscape | None) -> str:
    """What the surface shows."""
    if found is None:
        return "Too few trials, or too few ranges, to draw a surface."
    return (
        f"{sentence(found.monitor.label)} over {found.x.name} and {found.y.name}: points are trials, "
        "colours between them are interpolated, "
        "other hyperparameters differ. A trial that was stopped early stands with what it had by then."
    )


def pareto_line(material: Material) -> str:
    """The trials between which the monitored value and recall must be weighed."""
    front = pareto_front(material.record, material.recall)
    if not front:
        return "No trial has finished an epoch."
    told = [f"trial {t.label} ({t.score:.4f}, {shown(t.best[material.recall], 2)})" for t in front if t.best]
    more = f" and {len(told) - 6} more" if len(told) > 6 else ""
    both = f"{material.monitor.label} and {material.positive_class} recall"
    return f"No trial beats these in both {both}: {', '.join(told[:6])}{more}."


def recommendation_line(material: Material) -> str:
    """What the three values of a trial are, and which of them decided."""
    found, spec = material.recommendation, material.spec
    if not found or not found.best or not spec:
        return "No trial has finished an epoch."
    if spec.recommend != "model":
        return "The search chose by the observed value of trials that ran to their end; the model is shown beside it."
    if found.why_plain:
        return f"Best first, by the best so far of any trial. {found.why_plain}"
    return (
        "Best first: half the value expected at full length, half that of a model of all trials, plus the doubt. "
        f"An observed value much better than its model's was luck. First: {found.best.words}."
    )


def slots_line(material: Material) -> str:
    """Where the time went."""
    use = material.slots
    if use is None:
        return "No trial has finished an epoch."
    shares = ", ".join(f"{words} {use.share(work):.0%}" for work, words in WORK_WORDS.items())
    return f"{use.lanes} slot(s), {minutes(sum(use.seconds.values()))} of slot time: {shares}."


def reproduce_lines(material: Material) -> Sequence[str]:
    """What to type to get there again."""
    name, environment = material.settings.name, settings_environment(material)
    command = shell_command(map(str, environment.get("command", ())))
    return [
        line for line in (command, f"python -m tune_btxrd trial {shell_word(name)} NUMBER" if material.spec else "") if line
    ]


def head_lines(material: Material) -> list[str]:
    """Under the title: which data, when, how far."""
    dataset, environment = material.settings.dataset, settings_environment(material)
    source = material.settings.source
    kind = "classes" if task_named(source.task).exclusive else "labels"
    lines = [f"{dataset.name}, {dataset.images:,} images; {kind} {', '.join(source.class_names)}"]
    created = str(environment.get("created", ""))[:16].replace("T", " ")
    begun = f", begun {created}" if created else ""
    if material.spec is None:
        return [*lines, f"One config trained without a search{begun}"]
    ranges = "; ".join(f"{d.name} {d.describe()}" for d in material.spec.space)
    folds = f", {material.spec.judged_by}" if material.spec.judged_by else ""
    lines.append(f"{len(material.record.search_trials)} trials{begun}{folds}, over {ranges}")
    return [*lines, *(f"Began {item}" for item in material.settings.space.knowledge)]


def captions(material: Material, found: Importances | None, surface: Landscape | None) -> dict[str, tuple[str, str]]:
    """Title and caption of every picture; a caption says what is seen and what it shows here."""
    positive, label = material.positive_class, material.monitor.label
    told = {
        "trainings": ("Final job, epoch by epoch", f"Val loss and {positive} recall of each training on each split."),
        "confirmation": (
            "Confirmation",
            "Each config again with fresh seeds on fresh partitions. A search score left of its repeats was luck.",
        ),
        "slots": ("What every slot did", slots_line(material)),
    }
    if material.spec is None:
        return told
    return told | {
        "recommendation": ("The best trials", recommendation_line(material)),
        "history": (
            "Search history",
            f"Best {label} of every trial; a trial without one stands at the worse edge. The line is the best so far.",
        ),
        "curves": ("Learning curves and rungs", cut_line(material)),
        "pareto": (f"{sentence(label)} against {positive} recall", pareto_line(material)),
        "importance": ("Importance", importance_line(found) if found else ""),
        "slices": ("One hyperparameter at a time", f"Best {label} of every trial against each searched hyperparameter."),
        "landscape": ("Two hyperparameters", landscape_line(surface)),
        "parallel": (
            "All hyperparameters together",
            f"A line per trial; the stronger the line, the better its {label}.",
        ),
        "sizes": ("Image sizes: score and cost", sizes_line(size_rows(material.record, material.spec), material.monitor)),
    }


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def data_lines(material: Material) -> list[str]:
    """The dataset in words."""
    audit = material.audit
    if audit is None:
        return [gap for gap in material.gaps if "audit" in gap]
    counts = ", ".join(f"{count:,} {name}" for name, count in audit.class_counts.items())
    lines = [f"{audit.images:,} images: {counts}."]
    centers = {
        center: ", ".join(f"{count:,} {name}" for name, count in classes.items())
        for center, classes in audit.class_by_center.items()
    }
    if len(centers) > 1:
        lines.append("By center: " + "; ".join(f"{center}: {text}" for center, text in centers.items()) + ".")
    lines.append(f"{audit.broken} files missing or unreadable; {audit.duplicates} pairs of duplicates.")
    return lines


def environment_pairs(material: Material) -> list[tuple[str, str]]:
    """Versions, commit, machine, data hash: what a reviewer asks for."""
    noted = settings_environment(material)
    packages = noted.get("packages", {})
    pairs = {
        "tune_btxrd": noted.get("tune_btxrd"),
        "git commit": noted.get("git_commit"),
        "Python": noted.get("python"),
        "platform": noted.get("platform"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "device": material.settings.device,
        "slots": material.settings.layout and material.settings.layout.slots,
        "data sha256": material.settings.dataset.sha256,
        "searched split": material.settings.searched,
        "results": material.folder,
        "checkpoints": material.settings.checkpoints,
    }
    return [(name, str(value)) for name, value in pairs.items() if value]


def settings_environment(material: Material) -> NotedEnvironment:
    """Versions, commit, machine, as `search.json` noted them."""
    return cast("NotedEnvironment", material.record.settings.get("environment", {}))
