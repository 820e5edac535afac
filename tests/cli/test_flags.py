"""Every flag counts: given to its verb, it changes the typed call of the Python API, or it is refused, or (a flag of
presentation) it changes what is printed. A flag that does nothing makes this fail.
"""

import ast
import contextlib
import inspect
import itertools
import json
from argparse import _SubParsersAction as SubParsers
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tune_btxrd.cli.label
import tune_btxrd.cli.labels
import tune_btxrd.cli.list
import tune_btxrd.cli.show
import tune_btxrd.cli.submit
import tune_btxrd.cli.watch
import tune_btxrd.console
import tune_btxrd.labels.add
import tune_btxrd.labels.exchange
import tune_btxrd.labels.status
import tune_btxrd.labels.store
import tune_btxrd.pipeline.finished
import tune_btxrd.pipeline.predict_images
import tune_btxrd.pipeline.prepare
import tune_btxrd.pipeline.run
import tune_btxrd.pipeline.score_store
import tune_btxrd.pipeline.start
from tests.support.reports import make_search
from tune_btxrd.cli import verbs
from tune_btxrd.cli.flags import read_window
from tune_btxrd.cli.main import main
from tune_btxrd.cli.parser import VERBS, Parser, build_parser, parse_words
from tune_btxrd.cli.submit import entrypoint
from tune_btxrd.errors import ConfigError

SPACE = "space: {lr: {low: 1.0e-5, high: 1.0e-2, log: true}}\nstart: [{lr: 1.0e-3}]\nfixed: {weight_decay: 0.0}\n"
SEAMS: dict[str, tuple[Any, str]] = {  # verb -> the function that does its work
    "run": (tune_btxrd.pipeline.run, "run"),
    "search": (tune_btxrd.pipeline.run, "search"),
    "retrain": (tune_btxrd.pipeline.run, "retrain"),
    "train": (tune_btxrd.pipeline.run, "train"),
    "prepare": (tune_btxrd.pipeline.prepare, "prepare"),
    "export": (tune_btxrd.pipeline.finished, "export"),
    "evaluate": (tune_btxrd.pipeline.finished, "evaluate"),
    "explain": (tune_btxrd.pipeline.finished, "explain"),
    "report": (tune_btxrd.pipeline.finished, "report"),
    "trial": (tune_btxrd.pipeline.finished, "trial"),
    "predict": (tune_btxrd.pipeline.predict_images, "predict_images"),
    "watch": (tune_btxrd.cli.watch, "watch"),
    "label": (tune_btxrd.cli.label, "label"),
    "list": (tune_btxrd.cli.list, "searches"),
    "labels init": (tune_btxrd.labels.store.LabelStore, "create"),
    "labels extend": (tune_btxrd.labels.store.LabelStore, "add_labels"),
    "labels add": (tune_btxrd.labels.add, "add_folder"),
    "labels import": (tune_btxrd.labels.exchange, "import_labels"),
    "labels export": (tune_btxrd.labels.exchange, "export_labels"),
    "labels status": (tune_btxrd.labels.status, "status"),
    "labels score": (tune_btxrd.pipeline.score_store, "score_store"),
}
PRINTS = {
    "--json",
    "--quiet",
    "--verbose",
    "--help",
    "--format",
    "--output",
    "--picture",
}  # tested below, by what is printed
NEEDED = {  # words without which a verb cannot be read
    **{verb: ["first"] for verb in ("retrain", "export", "evaluate", "explain", "report", "watch")},
    "trial": ["first", "3"],
    "label": ["chest.db"],
    "predict": ["best.pt", "image.png"],
    "space": ["space.yaml"],
    "submit": ["--storage", "/shared/x"],
    "labels init": ["chest.db", "--labels", "effusion"],
    "labels extend": ["chest.db", "--labels", "edema"],
    "labels add": ["chest.db", "folder"],
    "labels import": ["chest.db", "groups.csv"],
    **{f"labels {verb}": ["chest.db"] for verb in ("export", "status", "score")},
}
VALUES = {
    "--gpus-per-trial": "0.5",
    "--time-budget": "6h",
    "--set": "clip=1.5",
    "--key": "effusion=e",
    "--cpus-per-trial": "2",
    "--phantom-size": "128",
    "--window": "-600,1500",
    "--group-table": "groups.csv",
}


class CalledError(Exception):
    """The call that a verb makes, in place of its work."""


def recorder(*positional: Any, **named: Any) -> None:
    named.pop("asked", None)  # the time
    named.pop("told", None)
    if "agreed" in named:
        named["agreed"] = named["agreed"].__name__
    raise CalledError(repr((positional, sorted(named.items()))))


class Opened(type(Path())):  # type: ignore[misc]
    """The path of a store in place of the store; what would change it is recorded."""

    add_labels = staticmethod(recorder)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what flags may name, and every verb's work replaced by a record of its call."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "groups.csv").write_text("image_id,group\n1,a\n")
    (tmp_path / "config.yaml").write_text("dropout: 0.4\n")
    monkeypatch.chdir(tmp_path)
    for module, name in SEAMS.values():
        monkeypatch.setattr(module, name, recorder)
    monkeypatch.setattr(tune_btxrd.cli.labels, "_open", lambda path, **settings: contextlib.nullcontext(Opened(path)))
    return tmp_path


def call_of(verb: str, *words: str) -> str:
    """What the verb's work would be called with; for `submit` the command of its job and what is done with it."""
    flags = parse_words([*verb.split(), *NEEDED.get(verb, []), *words])
    if verb == "submit":
        own = {name: getattr(flags, name) for name in ("address", "packages", "detach", "status", "log", "stop")}
        return f"{own} {entrypoint(flags)}"
    with pytest.raises(CalledError) as call:
        verbs.run_verb(flags)
    return str(call.value)


def parsers(parser: Parser | None = None, above: str = "") -> dict[str, Parser]:
    """Verb, or two words where a verb has verbs of its own, -> its parser."""
    inner = next((action.choices for action in (parser or build_parser())._actions if isinstance(action, SubParsers)), None)
    if inner is None:
        return {above.strip(): parser}
    return {name: leaf for verb, each in inner.items() for name, leaf in parsers(each, f"{above} {verb}").items()}


def options() -> list[tuple[str, str]]:
    """(verb, flag) of everything that can be typed."""
    return [
        (verb, flag)
        for verb, parser in parsers().items()
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--")
    ]


def words_of(verb: str, flag: str) -> list[str]:
    """The flag with a value that is not its default."""
    action = parsers()[verb]._option_string_actions[flag]
    if action.nargs == 0:
        return [flag]
    if action.choices:
        return [flag, list(action.choices)[-1]]
    named = {"--space": "space.yaml", "--config": "config.yaml", "--data": "folder"}
    kind = {int: "19", float: "2", Path: "folder"}.get(action.type, "x")
    return [flag, named.get(flag) or VALUES.get(flag) or kind]


@pytest.mark.parametrize(("verb", "flag"), [item for item in options() if item[1] not in PRINTS])
def test_every_flag_changes_the_call_or_is_refused(verb: str, flag: str, there: Path) -> None:
    words = words_of(verb, flag)
    beside = ["--data", "folder"] if flag == "--accept-revision" else []
    plain = call_of(verb, *beside)
    try:
        assert call_of(verb, *beside, *words) != plain, f"{verb} {flag} changes nothing"
    except ConfigError as refusal:
        assert flag.lstrip("-") in str(refusal).replace("_", "-")


def test_a_flag_that_does_nothing_is_found(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meaning, declare = VERBS["export"]

    def with_more(parser: Parser) -> None:
        declare(parser)
        parser.add_argument("--idle", help="nothing")

    monkeypatch.setitem(VERBS, "export", (meaning, with_more))
    assert call_of("export", "--idle", "x") == call_of("export")


def test_every_parameter_of_the_api_is_used() -> None:
    """The other half: what a flag sets is read by the function that takes it."""
    for module, name in (*SEAMS.values(), (tune_btxrd.pipeline.start, "begin"), (tune_btxrd.pipeline.start, "go_on")):
        tree = ast.parse(inspect.getsource(module))
        body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
        read = {node.id for part in body.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        for argument in itertools.chain(body.args.args, body.args.kwonlyargs):
            assert argument.arg in read, f"{name} ignores {argument.arg}"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["retrain", "x", "--groups", "none"], "--groups"),
        (["retrain", "x", "--exclude", "f"], "--exclude"),
        (["prepare", "--backbone", "x"], "--backbone"),
        (["prepare", "--storage", "x"], "--storage"),
        (["report", "x", "--cache", "x"], "--cache"),
        (["list", "--quiet"], "--quiet"),
        (["run", "--split=common", "--trails", "3"], "--trials"),
        (["run", "--spl", "common"], "--spl"),
        (["submit", "--status", "job", "--storage", "/x"], "--storage"),
        (["run", "--set", "dropuot=0.1"], "dropout"),
        (["run", "--set", "epochs=3", "--epochs", "4"], "epochs"),
        (["run", "--set", "lr=high"], "lr"),
        (["prepare", "--table-only", "--image-size", "64"], "--image-size"),
        (["run", "--splits", ","], "--splits"),
        (["run", "--splits", "center,center"], "--splits"),
        (["run", "--gpus-per-trial", "nan"], "--gpus-per-trial"),
        (["run", "--gpus-per-trial", "1", "--device", "cpu"], "--gpus-per-trial shares out CUDA's GPUs"),
        (["run", "--channels", "t1"], "--channels is for volumes, but the phantom shows images"),
        (["train", "--phantom", "images", "--spacing", "1"], "--spacing is for volumes"),
        (["prepare", "--image-size", "7"], "`32 <= image_size <= 1024` must hold"),
        (["run", "--cpus-per-trial", "inf"], "--cpus-per-trial"),
        (["run", "--slots", "0"], "--slots"),
        (["predict", "a", "b", "--json", "--format", "csv"], "--format"),
        (
            ["labels", "add", "x.db", "folder", "--group-patern", "p"],
            "labels add takes no --group-patern. Did you mean --group-p",
        ),
        (["labels", "status", "x.db", "--group-pattern", "p"], "labels status takes no --group-pattern. See"),
        (["labels", "score", "x.db", "--stratgy", "p"], "--strategy"),
        (["labels"], "VERB"),
        ([], "VERB"),
    ],
)
def test_what_a_verb_does_not_take_is_one_line(
    words: list[str], found: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and found in lines[0], lines


def test_set_takes_the_type_of_its_field(there: Path) -> None:
    called = call_of("run", "--set", "clip=1", "--set", "drop_last=yes", "--set", "epochs=7", "--batch-size", "8")
    for words in ("'clip': 1.0", "'drop_last': True", "'epochs': 7", "'batch_size': 8"):
        assert words in called


@pytest.mark.parametrize("words", [["list"], ["space", "space.yaml"], ["report", "stub"]])
def test_json_is_one_document_and_nothing_else(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    make_search(tmp_path / "ray_results" / "stub", trials=6, odd=False)
    (tmp_path / "ray_results" / "bad").mkdir()
    (tmp_path / "ray_results" / "bad" / "search.json").write_text("[1]")
    assert main([*words, "--json"]) == 0
    shown = capfd.readouterr().out
    document = json.loads(shown)
    assert "stub" in shown or "lr" in document["space"]
    assert main(words) == 0
    with pytest.raises(json.JSONDecodeError):
        json.loads(capfd.readouterr().out)


def test_predictions_are_printed_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Found:
        def to_json(self) -> str:
            return "{}"

        def to_csv(self) -> str:
            return "file\n"

    show: Callable[..., None] = tune_btxrd.cli.show.show_predictions
    show(Found(), form="json", output=None)
    show(Found(), form="csv", output=None)
    show(Found(), form="json", output=tmp_path / "answer.json")
    assert capsys.readouterr().out == "{}\nfile\n" and (tmp_path / "answer.json").read_text() == "{}"


def test_how_much_is_said_is_as_asked(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr(tune_btxrd.console, "set_verbosity", levels.append)
    for word in ([], ["--quiet"], ["--verbose"]):
        call_of("search", *word)
    assert levels == [0, -1, 1]


@pytest.mark.parametrize("words", [["--window", "-600,1500"], ["--window=-600,1500"]])
def test_a_window_may_lie_below_zero(words: list[str]) -> None:
    assert read_window(parse_words(["prepare", "--data", "x", *words]).window) == (-600.0, 1500.0)
