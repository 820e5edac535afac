"""MODEL_CARD.md in the form of Hugging Face: what a checkpoint is, where it is from, what it achieves, what it is not for.

Everything is read from disk: `search.json`, splits, audit, `evaluation/`. What is not there is said to be absent.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_btxrd.data.splits.split_files import read_split
from tune_btxrd.data.splits.splits import PARTS
from tune_btxrd.errors import shell_command
from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.inference.fold_card import fold_lines
from tune_btxrd.inference.model_info import INFO_FILE, MANIFEST_FILE, ModelInfo, read_object
from tune_btxrd.results.checkpoints import WINNER
from tune_btxrd.results.member_list import FILE, RULES, SOUP, MemberList
from tune_btxrd.results.search_json import known_of
from tune_btxrd.scoring.cells import average_rows, class_rows, score_rows
from tune_btxrd.scoring.csv_tables import read_csv
from tune_btxrd.search.journal import FILE as JOURNAL_FILE
from tune_btxrd.search.record import HAND_MADE_NUMBER, read_search, read_settings, states_line
from tune_btxrd.tasks.record import shown
from tune_btxrd.tasks.task import Task

CARD_FILE = "MODEL_CARD.md"
BTXRD = (
    "BTXRD (Yao et al., A Radiograph Dataset for the Classification, Localization, and Segmentation of Primary Bone Tumors, "
    "Scientific Data 12:88, 2025), licence CC BY-NC-ND 4.0: **not for commercial use**, cite the authors, do not pass the "
    "images on in changed form"
)
BTXRD_LICENCE = "https://creativecommons.org/licenses/by-nc-nd/4.0/"
TAGS = {"btxrd": ("radiograph", "bone-tumor"), "phantom": ("synthetic",)}  # of a dataset that we know
FOLDS_TOGETHER = (
    "No image of the folds is left on which all of them could be judged together: each was trained on by all but one. Each "
    "fold alone, out of fold: `folds.csv`. `evaluate` scores the ensemble on test parts that no fold saw."
)
PHANTOM = "the phantom: {} drawn by tune_btxrd itself in {}'s layout. Scores on it say nothing about patients"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        results: `ray_results/<name>`; split_folder: `checkpoints/<name>/<stem>`; stem, split: the split's names.
        info: the exported model.
        files: exported file -> SHA-256; differences: format -> largest difference of a logit.
        average: what it is made of, where it is an ensemble or a soup.
    """

    results: Path
    split_folder: Path
    stem: str
    split: str
    info: ModelInfo
    files: Mapping[str, str]
    differences: Mapping[str, float]
    average: MemberList | None = None

    @property
    def name(self) -> str:
        """What tables call this model."""
        return WINNER if self.average is None else self.average.kind


def write_card(export: Path, *, results: Path, split_folder: Path) -> None:
    """Writes `MODEL_CARD.md` into an export folder, again whenever more is known, and its hash into the manifest.

    Args:
        export: the folder with `manifest.json` and `tune_btxrd.json`.
        results: `ray_results/<name>`; split_folder: `checkpoints/<name>/<stem>`, where `evaluation/` may lie.

    Raises:
        ResultError: `search.json` is missing or damaged, or the folder cannot be written.
    """
    manifest = read_object(export / MANIFEST_FILE)
    files = {name: digest for name, digest in manifest["files"].items() if name != CARD_FILE}
    facts = CardFacts(
        results=results,
        split_folder=split_folder,
        stem=split_folder.name,
        split=manifest["split"],
        info=ModelInfo.from_dict(read_object(export / INFO_FILE), source=export / INFO_FILE),
        files=files,
        differences=manifest["differences"],
        average=MemberList.load(export) if (export / FILE).is_file() else None,
    )
    write_whole(export / CARD_FILE, model_card(facts))
    manifest["files"] = {**files, CARD_FILE: file_sha256(export / CARD_FILE)}
    write_whole(export / MANIFEST_FILE, json.dumps(manifest, indent=2) + "\n")


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with its YAML head. Raises: ResultError where `search.json` is missing or damaged."""
    settings = read_settings(facts.results)
    sections = {
        **({} if facts.average is None else {"An average": _average(facts.average)}),
        "Use": _use(facts),
        "Data": _data(settings, facts),
        "Audit findings": _audit(facts.results),
        "Search": _search(settings, facts.results),
        "Results": _results(facts),
        "Subgroups": _subgroups(facts),
        "Limits": _limits(settings, facts.info),
        "Files": _files(facts),
    }
    name = settings.get("name", facts.results.name)
    of = "" if facts.average is None else f"{facts.average.title}: "
    title = f"# {of}{facts.info.backbone} for {', '.join(facts.info.class_names)} ({name}, split {facts.split})"
    warning = "> **Not for clinical use.** A research model; no statement about a patient may rest on it."
    body = [part for heading, lines in sections.items() for part in (f"## {heading}", "\n".join(lines))]
    return "\n\n".join([_head(settings, facts), title, warning, *body]) + "\n"


def _head(settings: Mapping[str, Any], facts: CardFacts) -> str:
    """Hugging Face's YAML metadata."""
    dataset = str(settings.get("dataset", {}).get("name", "unknown"))
    terms = "non-commercial-research" if dataset == "btxrd" else "that-of-the-data"
    library = "monai" if facts.info.channels else "timm"
    lines = [f"library_name: {library}", "pipeline_tag: image-classification", "license: other", f"license_name: {terms}"]
    lines += [f"license_link: {BTXRD_LICENCE}"] if dataset == "btxrd" else []
    about = TAGS.get(dataset, ())
    lines += ["tags:", *(f"- {tag}" for tag in (*about, "not-for-clinical-use")), f"datasets:\n- {json.dumps(dataset)}"]
    if not facts.info.channels:
        lines.append(f"base_model: timm/{facts.info.backbone}")
    return "\n".join(["---", *lines, "---"])


def _average(listed: MemberList) -> Iterator[str]:
    """That the model is no single training, and what it is made of."""
    yield f"This model is no single training but the {listed.title}: {RULES[listed.kind]}.\n"
    tried = any(member.together is not None for member in listed.members)
    rows = [
        [item.name, f"{item.value:.4f}"]
        + ([shown(_number(item.together), 4), "yes" if item.kept else "no"] if tried else [])
        for item in listed.members
    ]
    yield from _table(["member", listed.monitor, *(["of the average with it", "kept"] if tried else [])], rows)
    if listed.value is not None:
        flattered = " It was put together by this value, which flatters it." if listed.kind == SOUP else ""
        yield f"\nTogether: {listed.monitor} {listed.value:.4f}.{flattered}"
    if listed.gains:
        yield f"\nMinus the single winner on validation, 95 % paired interval: {', '.join(map(str, listed.gains))}."


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _use(facts: CardFacts) -> Iterator[str]:
    if facts.average is not None and facts.average.kind != SOUP:
        yield "For research on imbalanced image classification. Each member is exported in a folder of its own; all answer"
        yield "together by `python -m tune_btxrd predict FOLDER IMAGE...`, with this folder.\n"
    else:
        yield from _loading(facts)
    yield f"Input: {facts.info.preprocessing}\n"
    is_ensemble = facts.average is not None and facts.average.kind != SOUP
    mean = "; the ensemble's are those of its members' mean probabilities" if is_ensemble else ""
    yield f"Output: logits of {', '.join(facts.info.class_names)}, in this order{mean}."
    if facts.info.task.exclusive:
        yield from _class_use(facts.info)
    else:
        yield from _label_use(facts.info)


def _loading(facts: CardFacts) -> Iterator[str]:
    yield "For research on imbalanced image classification. Loading, from this folder:\n"
    if facts.info.channels and facts.info.head == "linear":
        yield from _monai_lines(facts.info, facts.stem)
    elif facts.info.head == "linear":
        yield '```python\nimport timm\nmodel = timm.create_model("local-dir:timm", pretrained=True).eval()\n```\n'
    else:
        yield "```python\nimport onnxruntime\nmodel = onnxruntime.InferenceSession('model.onnx')\n```\n"
        yield f"Its {facts.info.head} head is none of {'MONAI' if facts.info.channels else 'timm'}'s.\n"


def _monai_lines(info: ModelInfo, stem: str) -> Iterator[str]:
    depth = info.backbone.rpartition("_")[2]
    shortcut = "A" if depth in ("18", "34") else "B"
    arguments = (
        f'n_input_channels={len(info.channels)}, num_classes={len(info.class_names)}, shortcut_type="{shortcut}", '
        f"bias_downsample=False, conv1_t_stride={info.stem_stride}"
    )
    yield (
        f"```python\nimport monai, torch\nmodel = monai.networks.nets.resnet{depth}({arguments})\n"
        f'model.load_state_dict(torch.load("best_{stem}.pt", weights_only=True)["model_state_dict"])\n```\n'
    )


def _class_use(info: ModelInfo) -> Iterator[str]:
    decisions = info.decisions
    if decisions is not None:
        bias = ", ".join(f"{value:+.3f}" for value in decisions.calibration.bias)
        temperature = decisions.calibration.temperatures[0]
        yield f"\nCalibrated: softmax(logits / {temperature:.3f} + [{bias}]), fitted on validation."
        for point in decisions.operating_points:
            yield (
                f"- {info.class_names[decisions.positive_class]}, {point.name}: calibrated probability >= "
                f"{point.threshold:.4f} (on validation: sensitivity {point.val_sensitivity:.3f}, "
                f"specificity {point.val_specificity:.3f})"
            )
        yield from (f"- {note}" for note in decisions.notes(info.class_names))


def _label_use(info: ModelInfo) -> Iterator[str]:
    """Independent labels: a table with what was fitted for each."""
    yield "The labels do not exclude each other: the probability of each is sigmoid(logit)."
    decisions = info.decisions
    if decisions is None:
        return
    yield "\nCalibrated: sigmoid(logit / temperature + bias). Thresholds are on the calibrated probability; in brackets"
    yield "sensitivity and specificity on validation, where all of this was fitted.\n"
    yield f"Decision: {decisions.rule}.\n"
    points = list(dict.fromkeys(point.name for label in decisions.labels for point in label.operating_points))
    rows = []
    for index, (name, label) in enumerate(zip(info.class_names, decisions.labels, strict=True)):
        fitted = [f"{decisions.calibration.temperatures[index]:.3f}", f"{decisions.calibration.bias[index]:+.3f}"]
        cells = {
            p.name: f"{p.threshold:.4f} ({p.val_sensitivity:.2f}, {p.val_specificity:.2f})" for p in label.operating_points
        }
        rows.append([name, label.images, *fitted, *(cells.get(point, "-") for point in points)])
    yield from _table(["label", "known validation images", "temperature", "bias", *points], rows)
    yield ""
    yield from (f"- {note}" for note in decisions.notes(info.class_names))


def _data(settings: Mapping[str, Any], facts: CardFacts) -> Iterator[str]:
    dataset = settings.get("dataset", {})
    name = dataset.get("name", "unknown")
    drawn = PHANTOM.format(*(("volumes", "BraTS") if facts.info.channels else ("images", "BTXRD")))
    about = {"btxrd": BTXRD, "phantom": drawn}.get(name, f"{name}: its licence is that of its owner")
    yield f"Trained on {about}. Identity of table and labels: sha256 `{dataset.get('sha256', 'unknown')}`.\n"
    names, task = facts.info.class_names, facts.info.task
    table = read_split(facts.results / "splits", facts.stem, names, task=task)
    counts = {part: _counts(table.targets[table.parts == part], len(names), task) for part in PARTS}
    answers = "" if task.exclusive else "; images with a known yes, a known no, unknown"
    yield f"Split `{facts.split}` ({len(set(table.groups))} groups, none in two parts{answers}):\n"
    yield from _table(["part", *names], [[part, *row] for part, row in counts.items()])


def _counts(targets: np.ndarray, classes: int, task: Task) -> list[str]:
    """A cell per class: its images; of an independent label those with yes, no and unknown."""
    yes = task.counts(targets, classes)
    if task.exclusive:
        return [str(count) for count in yes]
    known = task.known(targets, classes).sum(axis=0)
    return [f"{one} yes, {total - one} no, {len(targets) - total} unknown" for one, total in zip(yes, known, strict=True)]


def _audit(results: Path) -> Iterator[str]:
    path = results / "tables" / "audit.csv"
    if not path.is_file():
        yield "No audit lies beside the search."
        return
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not len(table):
        yield "The audit found nothing to report."
        return
    if "strength" in table:  # what was found first, what was looked for and not found last
        weak = table["strength"].str.startswith("weak")
        table = pd.concat([table[~weak], table[weak]])
    shown = [name for name in ("finding", "where", "strength", "meaning") if name in table]
    yield from _table(shown, table[shown].to_numpy().tolist())


def _search(settings: Mapping[str, Any], results: Path) -> Iterator[str]:
    environment = settings.get("environment", {})
    command = shell_command(map(str, environment.get("command", ["unknown"])))
    yield f"- Made by `{command}`, commit {environment.get('git_commit')}"
    if settings.get("kind") == "train":
        yield "- One config, not searched"
        return
    yield f"- Searched on split `{settings.get('searched', 'unknown')}`, never on a test part (Optuna and ASHA on Ray Tune)"
    if (results / JOURNAL_FILE).is_file():
        record = read_search(results)
        repeats = sum(not trial.unneeded for trial in record.confirmations)
        ended = states_line(record.search_trials)
        yield f"- {len(record.search_trials)} trials ({ended}); {repeats} confirmation trainings, fresh seeds and partitions"
        rule = "best mean over its confirmations" if repeats else "best epoch of a complete trial, not confirmed"
        yield f"- Winner: {rule}; the hand-made config competed as trial {HAND_MADE_NUMBER}"
    yield from (f"- Began {item}" for item in known_of(settings))
    space = results / "space.yaml"
    if space.is_file():
        yield f"- Space:\n\n```yaml\n{space.read_text(encoding='utf-8').strip()}\n```"


def _results(facts: CardFacts) -> Iterator[str]:
    path = facts.split_folder / "evaluation" / "scores.csv"
    if lines := list(fold_lines(facts.split_folder)):
        yield from lines if facts.average is None else [FOLDS_TOGETHER]
        return
    if not path.is_file() or not _same_checkpoint(facts):
        yield "The test part has not been opened for this checkpoint (`evaluate` does so)."
        return
    scores, summary = read_csv(path), read_object(path.parent / "summary.json")
    yield from (f"- **{warning}**" for warning in summary.get("warnings", ()))
    yield from (f"- {note}" for note in summary["notes"])
    yield ""
    labels = not facts.info.task.exclusive
    rows = score_rows(scores, None, classes=() if labels else None)
    models = [name for name in rows[0] if name != "metric"]
    yield from _table(["test part, 95 % interval", *models], [list(row.values()) for row in rows])
    averages = path.with_name("averages.csv")
    if beside := average_rows(scores, read_csv(averages) if averages.is_file() else None, classes=() if labels else None):
        yield "\nAverages of several trainings beside the single winner; differences are paired:\n"
        yield from _table(list(beside[0]), [list(row.values()) for row in beside])
    if labels:
        by_label = class_rows(scores, facts.name, head="label, test part, 95 % interval")
        yield ""
        yield from _table(list(by_label[0]), [list(row.values()) for row in by_label])


def _subgroups(facts: CardFacts) -> Iterator[str]:
    path = facts.split_folder / "evaluation" / "subgroups.csv"
    if not path.is_file() or not _same_checkpoint(facts):
        yield "Not evaluated."
        return
    table = read_csv(path)
    if table.empty:
        yield "The dataset names none: neither centers nor views, regions, types, sex or age."
        return
    table = table[(table["model"] == facts.name) & (table["asked"] > 0)]
    yield f"{facts.name.capitalize()}; Clopper-Pearson intervals; * fewer than 10 images.\n"
    labels = "class" in table
    heads = ["by", "level", "images", "label"] if labels else ["by", "level", "images"]
    metrics = ["sensitivity", "specificity"] if labels else ["accuracy", "sensitivity", "specificity"]
    table = table[table["metric"].isin(metrics)]
    rows = []
    for place, group in table.groupby(["kind", "level", "images", *(["class"] if labels else [])], sort=False):
        cells = {row["metric"]: _count_cell(row) for _, row in group.iterrows()}
        rows.append([*place, *(cells.get(name, "-") for name in metrics)])
    shown = metrics if labels else ["accuracy", "sensitivity (positive class)", "specificity"]
    yield from _table([*heads, *shown], rows)


def _limits(settings: Mapping[str, Any], info: ModelInfo) -> Iterator[str]:
    yield "- No clinical validation; no external test beyond the split named here."
    dataset = settings.get("dataset", {}).get("name")
    if dataset in TAGS and not info.channels:
        yield "- Patients are rebuilt from the table (same center, class, age, sex, type, site in neighbouring rows)."
        yield "- Labels, centers and views are those of the released table; acquisition marks may be learned."
    else:
        yield "- Images of one patient are kept in one part only where the dataset names groups."
        yield "- Labels are those of the dataset; acquisition marks may be learned instead of what they name."
    share = "tumours" if dataset in TAGS else "what is looked for"
    yield f"- Probabilities shift with the share of {share}; recalibrate before any other use."
    if dataset == "btxrd":
        yield "- The data's licence forbids commercial use; so the weights are offered for non-commercial research only."


def _files(facts: CardFacts) -> Iterator[str]:
    yield from _table(["file", "sha256"], [[f"`{name}`", f"`{digest}`"] for name, digest in facts.files.items()])
    yield ""
    found = ", ".join(f"{name} {value:.2g}" for name, value in facts.differences.items())
    yield f"Largest difference of a logit from the checkpoint's own: {found}."


def _same_checkpoint(facts: CardFacts) -> bool:
    path = facts.split_folder / "evaluation" / "summary.json"
    if not path.is_file():
        return False
    return bool(read_object(path)["checkpoints"].get(facts.name) == facts.info.checkpoint_sha256)


def _count_cell(row: Any) -> str:
    mark = "*" if row["small"] else ""
    return (
        f"{row['found']:.0f}/{row['asked']:.0f} ({row['clopper_pearson_low']:.2f}-{row['clopper_pearson_high']:.2f}){mark}"
    )


def _table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A Markdown table; a bar within a cell would end it."""
    yield "| " + " | ".join(map(_escaped, head)) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(map(_escaped, row)) + " |"


def _escaped(cell: Any) -> str:
    return str(cell).replace("|", "\\|")
