"""Every verb with flags and names as nobody means them: done, or refused in one line; Ray is never reached by mistake."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.fuzz import HOSTILE_TEXTS, Case, Fuzz, check, run_verb, sealed
from tests.support.paths import ROOT
from tune_btxrd.cli.parser import build_parser
from tune_btxrd.errors import ConfigError


def leaves(parser: argparse.ArgumentParser, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """The words of a verb, two where a verb has verbs of its own, -> its parser."""
    if parser._subparsers is None:
        return {above: parser}
    choices = parser._subparsers._group_actions[0].choices.items()  # type: ignore[union-attr]
    return {words: leaf for name, each in choices for words, leaf in leaves(each, (*above, name)).items()}


VERBS = leaves(build_parser())
NUMBERS = ("0", "-1", "1", "2", "1.5", "1e9", "99999999999999999999", "nan", "inf", "-inf", "1_0", "0x10", "abc", "", "٣")
WORDS = (
    *HOSTILE_TEXTS,
    *("stratified", "center", "folders", "common", "fold 2/5", "fold 0/0", "fold 9/5", "fold -1/3", "fold 1/99999", ","),
    *("stratified,center", "stratified,stratified", "30min", "0s", "1.2.3h", "..5s", "1e3s", "h", "-5min", "auto", "1,2"),
    *("lr=0.1", "lr=fast", "lr", "=", "epochs=1", "stages=[", "s3://", "ftp://x", "http://h:1", "class/part", "class", "a"),
    *("/", ".", "/dev/null", "/proc/self/mem", "/nosuch/folder", "test_efficientnet", "resnet5O", "hf-hub:x/y"),
)
FILE = "a file"
ALONE = {("watch",), ("label",)}  # they stay until they are ended
LONG = {"--overlays", "--dashboard", "--packages", "--detach"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three class folders of noise."""
    root, random = tmp_path_factory.mktemp("flags") / "data", np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 255, (32, 32), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What would start Ray, or draw for seconds, is left out; caches of libraries lie in the test's folder."""
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def refuse(*arguments: object, **settings: object) -> None:
        raise ConfigError("Ray would start now.")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", refuse)
    monkeypatch.setattr("tune_btxrd.pipeline.prepare.write_pictures", lambda *arguments, **settings: None)


@pytest.mark.usefixtures("no_ray")
def test_every_verb_is_done_or_refused(fuzz: Fuzz, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    for case in fuzz.cases(120):
        command = command_of(case, dataset, tmp_path)
        print([word[:60] for word in command])
        with sealed(tmp_path, dataset.parent, programs=True), working_in(tmp_path):
            check(run_verb(*command))


def command_of(case: Case, dataset: Path, folder: Path) -> list[str]:
    """A verb, what it needs, and some of its flags with odd values."""
    verb = case.choice([name for name in VERBS if name not in ALONE])
    actions = [action for action in VERBS[verb]._actions if not isinstance(action, argparse._HelpAction)]
    words = [odd_value(case, action, folder) for action in actions if not action.option_strings]
    known = {flag for action in actions for flag in action.option_strings}
    places = {
        "--data": dataset,
        "--storage": folder / "r",
        "--checkpoints": folder / "c",
        "--cache": dataset.parent / "cache",
    }
    small = {"--space": ROOT / "search_spaces" / "phantom.yaml", "--image-size": 32}
    given = {flag: str(value) for flag, value in {**places, **small}.items() if flag in known}
    chosen = [action for action in actions if action.option_strings and LONG.isdisjoint(action.option_strings)]
    for action in case.sample(chosen, min(len(chosen), case.choice((1, 1, 2, 3)))):
        flag = case.choice(action.option_strings)
        given.pop(flag, None)
        words += [flag] if action.nargs == 0 else [f"{flag}={odd_value(case, action, folder)}"]
    return [*verb, *words, *(part for pair in given.items() for part in pair)]


def odd_value(case: Case, action: argparse.Action, folder: Path) -> str:
    """A value of the flag's kind, of another, or of none; paths stay in the folder, or cannot be written."""
    if action.choices and case.random() < 0.7:
        return str(case.choice(list(action.choices)))
    if action.type in (int, float) and case.random() < 0.8:
        return case.choice(NUMBERS)
    text = case.choice(WORDS)
    writes = {"--storage", "--checkpoints", "--cache", "--output", "--rank-uncertain"} & set(action.option_strings)
    if writes or (action.type is Path and case.random() < 0.5):
        return case.choice((str(folder / "a b"), str(folder / "ü$x"), str(folder / FILE / "x"), str(folder / ("x" * 300))))
    return text


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_two_dashes_are_no_value() -> None:
    outcome = run_verb("list", "--storage=--")
    check(outcome)
    assert outcome.code == 2 and "--storage needs another value" in outcome.error
