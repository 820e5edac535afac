"""Hand-made YAML: what a person mistypes is refused with one line that names the cure; the schema agrees with the reader."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.searches import SPACE
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space import json_schema as schema
from tune_btxrd.search.space.describe import explain
from tune_btxrd.search.space.spec import SearchSpec

FOLDER = ROOT / "search_spaces"
DROPOUT = "  dropout: {low: 0.0, high: 0.5}"

MISTAKES = {
    "unknown setting": (("trials: 6", "trails: 6"), "Unknown setting 'trails': did you mean 'trials'?"),
    "not at the top": (("trials: 6", "trials: 6\nlr: 0.1"), "Unknown setting 'lr': put it under `space:` or `fixed:`"),
    "unknown name": (("  dropout:", "  droput:"), "got 'droput': did you mean 'dropout'?"),
    "unknown key": (("low: 0.0", "min: 0.0"), "dropout takes low, high, log, step, choices, when, prior, but got 'min'"),
    "number as text": (("low: 1.0e-5", "low: 1e-5"), "lr.low must be a number, but YAML reads 1e-5 as text: write 1.0e-05"),
    "no sign": (("high: 1.0e-2", "high: 1.0e2"), "lr.high must be a number, but YAML reads 1.0e2 as text: write 1.0e+02"),
    "text in start": (("- {lr: 1.0e-3", "- {lr: 1e-3"), "lr must be a number, but YAML reads 1e-3 as text"),
    "scheduler no": (
        ("scheduler: asha", "scheduler: no"),
        "scheduler must be a text, but got False: YAML reads a bare no",
    ),
    "sampler typo": (
        ("trials: 6", "trials: 6\nsampler: tpee"),
        "sampler is one of tpe, gp, random` must hold, but got sampler='tpee'",
    ),
    "train loss": (("trials: 6", "trials: 6\nmonitor: train_loss"), "monitor is one of val_loss"),
    "trials as bool": (("trials: 6", "trials: yes"), "trials must be a whole number, but got True"),
    "half a trial": (("trials: 6", "trials: 6.5"), "trials must be a whole number, but got 6.5"),
    "no trial": (("trials: 6", "trials: 0"), "`trials >= 1` must hold, but got trials=0"),
    "duplicate key": (("startup", "trials: 7\nstartup"), "'trials' stands twice in the one of line 2"),
    "duplicate dimension": ((DROPOUT, f"{DROPOUT}\n{DROPOUT}"), "'dropout' stands twice"),
    "turned round": (
        ("{low: 0.0, high: 0.5}", "{low: 0.5, high: 0.0}"),
        "dropout: low < high` must hold, but got low=0.5, high=0.0",
    ),
    "infinite": (("high: 0.5}", "high: .inf}"), "dropout.high must be a finite number, but got inf"),
    "log from 0": (("high: 0.5}", "high: 0.5, log: true}"), "a log range starts above 0"),
    "uneven steps": (("high: 0.5}", "high: 0.5, step: 0.2}"), "high = low + a whole number of steps"),
    "outside the rule": (("high: 0.5}", "high: 1.5}"), "`0 <= dropout.high < 1` must hold, but got dropout.high=1.5"),
    "choices and range": (("high: 0.5}", "high: 0.5, choices: [0.1, 0.2]}"), "got choices and high: remove one"),
    "one choice": ((DROPOUT, "  dropout: {choices: [0.1]}"), "at least two values"),
    "equal choices": ((DROPOUT, "  dropout: {choices: [0.2, 0.2]}"), "0.2 stands there twice"),
    "nothing to search": ((DROPOUT, "  dropout: {log: true}"), "needs `low` and `high`, or `choices`"),
    "a list of stages as a choice": (
        (DROPOUT, "  stages: {choices: [one, [{epochs: rest, trains: all}]]}"),
        "stages.choices takes names (one, two_phase, three_stage), but got a list",
    ),
    "rungs without end": (("trials: 6", "trials: 6\nreduction_factor: 1.0001"), "`reduction_factor >= 1.1` must hold"),
    "no 64 bits": ((DROPOUT, "  patience: {low: 1, high: 99999999999999999999}"), "patience.high must be a whole number"),
    "fixed text": (
        ("trials: 6", "trials: 6\nfixed: {min_lr: 1e-7}"),
        "min_lr must be a number, but YAML reads 1e-7 as text",
    ),
    "fixed infinite": (("trials: 6", "trials: 6\nfixed: {clip: .inf}"), "clip must be a finite number, but got inf"),
    "fixed of no kind": (("trials: 6", "trials: 6\nfixed: {min_lr: [1]}"), "min_lr must be a finite number, but got [1]"),
    "range of names": ((DROPOUT, "  backbone: {low: 1, high: 2}"), "backbone is no number"),
    "when before its name": (
        ("log: true}", "log: true, when: {dropout: 0.5}}"),
        "lr waits for 'dropout': move that one above",
    ),
    "when never": (
        ("high: 0.5}", "high: 0.5, when: {lr: 0.5}}"),
        "dropout waits for lr = 0.5, which is not in 1e-05 .. 0.01",
    ),
    "start outside": (("lr: 1.0e-3", "lr: 1.0e-1"), "lr=0.1 is outside 1e-05 .. 0.01"),
    "start incomplete": ((", dropout: 0.2", ""), "dropout is missing"),
    "no start": (("start:\n  - {lr: 1.0e-3, dropout: 0.2}", "start: []"), "start has at least one config"),
    "start as mapping": (("  - {lr: 1.0e-3, dropout: 0.2}", "  lr: 1.0e-3"), "`start` must be a list of configs"),
    "late rung": (
        ("grace_period: 1", "grace_period: 9"),
        "`grace_period <= epochs` must hold, but got grace_period=9, epochs=4",
    ),
    "gp and asha": (("trials: 6", "trials: 6\nsampler: gp"), "`sampler: gp` learns from complete trials only"),
    "searched and fixed": (("trials: 6", "trials: 6\nfixed: {dropout: 0.1}"), "'dropout' is both"),
    "epochs fixed": (("trials: 6", "trials: 6\nfixed: {epochs: 3}"), "`epochs` is a setting of the whole search"),
    "many sizes": ((DROPOUT, "  image_size: {low: 64, high: 96, step: 2}"), "64 .. 96 step 2: 17 sizes: write choices"),
    "any size": ((DROPOUT, "  image_size: {low: 64, high: 68, log: true}"), "64 .. 68 (log): 5 sizes"),
    "min_lr above lr": (("trials: 6", "trials: 6\nfixed: {min_lr: 0.001}"), "min_lr <= lr everywhere in the space"),
    "one repeat": (("repeats: 2", "repeats: 1"), "repeats >= 2"),
    "constraint typo": (("trials: 6", 'trials: 6\nconstraint: {val_los: "<= 1"}'), "did you mean 'val_loss'"),
    "constraint form": (("trials: 6", "trials: 6\nconstraint: {val_loss: 1}"), "A constraint reads"),
    "bare list": ((SPACE, "- 1"), "must be a mapping of `name: value` lines"),
    "no YAML": (("space:", "space: {"), "must be YAML"),
    "no space": (("space:", "fixed:"), "has `space:`, but it is missing"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_its_cure(name: str, tmp_path: Path) -> None:
    (old, new), words = MISTAKES[name]
    assert old in SPACE
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        SearchSpec.load(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"but absent.yaml: No such file or directory"):
        SearchSpec.load(Path("absent.yaml"))


def test_gp_without_scheduler_and_merge_keys_are_accepted() -> None:
    text = SPACE.replace("scheduler: asha", "sampler: gp\nscheduler: none")
    text = text.replace("{lr: 1.0e-3, dropout: 0.2}", "&hand {lr: 1.0e-3, dropout: 0.2}\n  - {<<: *hand, dropout: 0.0}")
    spec = SearchSpec.from_text(text)
    assert spec.sampler == "gp" and spec.start[1] == {"lr": 1e-3, "dropout": 0.0}


@pytest.mark.timeout(60)  # what loops over trials or epochs does not end
def test_extreme_but_allowed_settings_are_explained_at_once() -> None:
    text = SPACE.replace("trials: 6", "trials: 9999999999\nreduction_factor: 1.1").replace("epochs: 4", "epochs: 9999999999")
    text = text.replace("confirm: 2", "confirm: 9999999999").replace("repeats: 2", "repeats: 9999999999")
    choices = ", ".join(f"0.{number:05d}" for number in range(2000))
    lines = explain(SearchSpec.from_text(text.replace("{low: 0.0, high: 0.5}", f"{{choices: [{choices}, 0.2]}}")))
    assert "0.00019 | ... (2001 in all)" in "\n".join(lines) and max(map(len, lines)) < 3000


def test_the_shipped_schema_is_the_generated_one() -> None:
    assert (FOLDER / "schema.json").read_text() == schema.text(), (
        "python -m tune_btxrd.search.space.json_schema > search_spaces/schema.json"
    )


def test_the_schema_accepts_what_is_shipped_and_refuses_typos() -> None:
    validator = jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text()))
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    paths = sorted(FOLDER.glob("*.yaml"))
    assert paths
    for path in paths:
        validator.validate(yaml.safe_load(path.read_text()))
    listed = SPACE + "fixed: {stages: [{epochs: rest, trains: all}], weights: null, image_size: 96}\n"
    validator.validate(yaml.safe_load(listed))
    seen = "unknown setting|unknown name|unknown key|number as text|sampler typo|scheduler no|no start|choices and range"
    for name in [
        *seen.split("|"),
        "outside the rule",
        "no trial",
        "one choice",
        "range of names",
        "epochs fixed",
        "constraint form",
    ]:
        old, new = MISTAKES[name][0]
        assert not validator.is_valid(yaml.safe_load(SPACE.replace(old, new, 1))), name
