"""The house as a test: who may import whom, what stays out of whom, and that nothing undocumented is shipped."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import BLOCK, ORDER, PACKAGE, PAGES, with_rows
from tests.support.paths import ROOT
from tune_btxrd.cli.parser import build_parser

MOST_MODULES_ON_TOP = 9
RAY_OUTSIDE = {"cli/submit.py"}  # and there inside functions alone
MODULES = sorted(PACKAGE.rglob("*.py"))
VERBS = build_parser()._subparsers._group_actions[0].choices


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int:
    return ORDER.index(module.split(".")[1] if module.count(".") else "__init__")


NAMES = {module_name(path) for path in MODULES}


def imported_modules(path: Path) -> set[str]:
    """All modules of the package that a file imports, also inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in NAMES else node.module for full in names.values()}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & NAMES


def packages_of(path: Path) -> set[str]:
    """All top-level packages a file imports."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {a.name for node in tree if isinstance(node, ast.Import) for a in node.names}
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names |= {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = floor_of(module_name(path))
    wrong = sorted(name for name in imported_modules(path) if floor_of(name) > own)
    assert not wrong, f"{path.name} imports from above: {wrong}"


def test_no_import_circle() -> None:
    graph = {module_name(path): imported_modules(path) - {module_name(path)} for path in MODULES}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, f"these import each other, or what does: {sorted(graph)}"


def test_the_top_level_holds_folders_and_a_handful_of_ground_words() -> None:
    names = {path.name for path in PACKAGE.glob("*.py")}
    assert len(names) <= MOST_MODULES_ON_TOP, sorted(names)


def test_ray_is_imported_in_one_folder() -> None:
    users = {path.relative_to(PACKAGE).as_posix() for path in MODULES if "ray" in packages_of(path)}
    assert {name for name in users if not name.startswith("distributed/")} <= RAY_OUTSIDE
    for name in RAY_OUTSIDE:
        assert not re.search(r"^(import|from) ray\b", (PACKAGE / name).read_text(), flags=re.MULTILINE)


def test_data_and_training_know_neither_ray_nor_optuna_and_data_knows_no_torch() -> None:
    for path in MODULES:
        layer = path.relative_to(PACKAGE).parts[0]
        forbidden = {"data": {"ray", "optuna", "torch", "timm"}, "training": {"ray", "optuna"}}.get(layer, set())
        assert not packages_of(path) & forbidden, path


def test_training_does_not_load_ray_and_the_driver_does_not_load_torch() -> None:
    code = "import sys, {}; sys.exit(int({!r} in sys.modules))"
    for module, absent in (
        ("tune_btxrd.training.checkpoint", "ray"),
        ("tune_btxrd.distributed.driver", "torch"),
        ("tune_btxrd.pipeline.run", "torch"),
        ("tune_btxrd.cli.list", "ray"),
        ("tune_btxrd.cli.parser", "numpy"),
    ):
        result = subprocess.run([sys.executable, "-c", code.format(module, absent)], check=False, cwd=ROOT)
        assert result.returncode == 0, f"{module} loads {absent}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_stands_in_the_readme(verb: str) -> None:
    assert len(VERBS[verb].description or "") > 10
    assert f"`{verb}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_flag_has_help() -> None:
    for name, parser in VERBS.items():
        for action in parser._actions:
            assert action.help, f"{name} {action.option_strings} has no help"


def test_requirements_are_pinned_with_a_reason_and_ranged_in_pyproject() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    assert all(re.fullmatch(r"[\w.\[\],-]+==\S+\s+# \S.*", line) for line in lines)
    project = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("\n]")[0]
    assert {re.match(r"[\w.-]+", item)[0].lower() for item in re.findall(r'"([^"]+)"', project)} == pinned


def test_no_module_is_longer_than_it_should_be() -> None:
    """Files of 60 to 250 lines are the aim; a limit keeps them from growing unseen."""
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_has_its_row(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert BLOCK.search(text), f"{page.name} has no place for the rows"
    assert text == with_rows(page), f"{page.name} does not list the files as they are: `make format` writes it"


def test_no_row_is_without_a_phrase() -> None:
    empty = [line for page in PAGES for line in with_rows(page).splitlines() if re.fullmatch(r"\| `\S+` \|\s*\|", line)]
    assert not empty, f"a module's docstring begins with one phrase that says what it is, but these have none: {empty}"


ASKED_OF_THE_TASK = {"argmax", "softmax", "log_softmax", "bincount", "one_hot", "sigmoid"}
NOT_ON_TARGETS = {  # file -> why the words there are on no target and no answer of a model
    "scoring/operating_points.py": "the threshold with the largest sum of two rates",
    "data/cache/deep_pixels.py": "how often each grey level occurs in a picture",
    "data/audit/shortcuts.py": "the feature that tells most",
    "data/audit/picture_measures.py": "the first bright column of a picture",
    "data/readers/btxrd_facts.py": "the first row that breaks a rule",
    "data/splits/partition.py": "the part that a group suits best",
    "data/splits/label_partition.py": "the part that lacks a group most",
}


def calls_of(path: Path) -> set[str]:
    """Names of functions and methods that a file calls or passes on."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def test_what_a_target_is_only_the_task_knows() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in MODULES if calls_of(path) & ASKED_OF_THE_TASK}
    assert {name for name in found if not name.startswith("tasks/")} == set(NOT_ON_TARGETS)


KNOW_DIMENSIONS = ("data/cache/", "data/audit/", "data/phantom/", "data/sheets.py", "training/models/", "training/augment/")
DIMENSIONS = re.compile(  # of samples: their number, a side by its place, a model input written out
    r"\b(images?|samples?|pixels|batch)\.(ndim|shape\[)|zeros\([^)]*\b3, |channels_last\b|\((0, )?2, 3\)|dim=\(1, 2"
)


def test_how_many_dimensions_a_sample_has_few_know() -> None:
    others = [path for path in MODULES if not path.relative_to(PACKAGE).as_posix().startswith(KNOW_DIMENSIONS)]
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in others}
    found = {f"{path.relative_to(PACKAGE)}:{n}": line for path in others for n, line in enumerate(lines[path], 1)}
    assert not {place: line for place, line in found.items() if DIMENSIONS.search(line)}
