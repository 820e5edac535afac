"""`search.json`: read back equal, and whatever damages it is one line that names the place."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.reports import make_settings
from tune_btxrd.cli.main import main
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ResultError
from tune_btxrd.results.search_json import SearchFlags, SearchSettings, SpaceRequest

VERBS = (["list"], ["watch", "stub"], ["report", "stub"], ["retrain", "stub"], ["run", "--name", "stub", "--resume"])


def test_it_is_read_back_equal(tmp_path: Path) -> None:
    folder = tmp_path / "ray_results" / "stub"
    request = DataRequest(data=tmp_path / "d", exclude=Path("x"), groups="none", phantom=PhantomSpec(count=20), seed=0)
    space = SpaceRequest(file=Path("a.yaml"), settings={"trials": 3}, hyperparameters={"weights": "/w", "clip": 1.5})
    flags = SearchFlags(skipped={"center": "one center"}, time_budget=90.0, leak={"stratified": 3})
    settings = dataclasses.replace(
        make_settings(folder),
        kind="train",
        request=request.complete(),
        space=space,
        flags=flags,
        config=TrainConfig(stages=({"epochs": 30, "trains": "all"},)).to_dict(),
        source=dataclasses.replace(make_settings(folder).source, splits=str((folder / "splits").resolve())),
    )
    settings.save(folder)
    read = SearchSettings.load(folder)
    assert dataclasses.replace(read, config=settings.config) == settings
    assert read.only_config == settings.only_config and read.request.complete() == read.request
    assert read.continued() == read  # the same environment is not noted twice


def at(document: Any, *path: Any, value: Any) -> Any:
    """The document with another value at a place; `...` removes it."""
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("name",), ..., "`name` is missing"),
        (("name",), 7, "`name` must be text"),
        (("name",), "../up", "plain file name"),
        (("kind",), "study", "`kind` must be one of search, train"),
        (("source",), [], "`source` must be an object"),
        (("source", "class_names"), "abc", "`source.class_names` must be a list"),
        (("source", "class_names"), ["a", None], "`source.class_names[1]` must be text"),
        (("source", "positive_class"), 9, "`source.positive_class` must be below 3"),
        (("layout", "slots"), "4", "`layout.slots` must be a whole number"),
        (("layout", "slots"), True, "`layout.slots` must be a whole number"),
        (("request", "phantom"), {"count": None}, "`request.phantom.count` must be a whole number"),
        (("request", "groups"), "all", "`request.groups` must be one of"),
        (("splits",), {"a": 3}, "`splits.a` must be text"),
        (("splits",), {"a": "../../b"}, "plain file name"),
        (("checkpoints_from_here",), "../other", "`checkpoints` must be a folder called stub"),
        (("flags",), None, "`flags` must be an object"),
        (("val_ratio",), "x" * 500, "`val_ratio` must be a number"),
        ((), 5, "must hold an object"),
        ((), [1], "must hold an object"),
        ((), None, "must hold an object"),
        ((), "NaN", "must hold an object"),
    ],
)
def test_damage_is_one_line_in_every_verb(
    path: tuple[str, ...],
    value: Any,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "ray_results" / "stub"
    make_settings(folder)
    (folder / "journal.jsonl").touch()
    known = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps(at(known, *path, value=value) if path else value))
    with pytest.raises(ResultError) as error:
        SearchSettings.load(folder)
    assert words in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400
    monkeypatch.chdir(tmp_path)
    for verb in VERBS:
        assert main(verb) == (0 if verb == ["list"] else 2)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert len(shown.err.splitlines()) == (0 if verb == ["list"] else 1)


def test_another_version_is_named(tmp_path: Path) -> None:
    make_settings(tmp_path / "stub")
    known = json.loads((tmp_path / "stub" / "search.json").read_text())
    known["environment"]["tune_btxrd"], known["splits"] = "9.9.9", []
    (tmp_path / "stub" / "search.json").write_text(json.dumps(known))
    with pytest.raises(ResultError, match=r"written by version 9\.9\.9"):
        SearchSettings.load(tmp_path / "stub")


@pytest.mark.parametrize("names", [["HER2+", "HER2-", "none"], ["A", "B"]])
def test_classes_that_shared_a_column_in_0_1_0_are_refused_in_every_verb(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(tmp_path / "ray_results" / "stub")
    source = dataclasses.replace(settings.source, class_names=tuple(names), positive_class=0)
    old = dataclasses.replace(settings.environment, tune_btxrd="0.1.0")
    dataclasses.replace(settings, source=source, environment=old).save(tmp_path / "ray_results" / "stub")
    if names == ["A", "B"]:
        assert SearchSettings.load(tmp_path / "ray_results" / "stub").environment == old
        return
    monkeypatch.chdir(tmp_path)
    for verb in (*VERBS, ["export", "stub"], ["evaluate", "stub", "--yes"], ["explain", "stub"], ["trial", "stub", "0"]):
        code = main(verb)
        said = capsys.readouterr()
        assert code == (0 if verb == ["list"] else 2)
        assert "version 0.1.0 kept one for HER2+ and HER2- together" in " ".join((said.out + said.err).split())
