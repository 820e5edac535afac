"""House: the order of the package's folders, and what the documentation's tables list of the code.

`make format` writes the tables and the schema of search spaces; `tests/test_architecture.py` fails where one is old.
"""

import ast
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.paths import ROOT
from tune_btxrd.config import FIELDS
from tune_btxrd.search.space import json_schema

PACKAGE = ROOT / "tune_btxrd"
ORDER = (  # of the house, from the ground up; imports point downwards only
    "version",
    "errors",
    "files",
    "console",
    "monitor",
    "stages",
    "config",
    "tasks",
    "data",
    "training",
    "scoring",
    "search",
    "labels",
    "results",
    "distributed",
    "inference",
    "evaluation",
    "report",
    "pipeline",
    "cli",
    "__init__",
    "__main__",
)
BLOCK = re.compile(r"(?<=<!-- rows: make format writes them -->\n).*?(?=<!-- end of rows -->)", re.DOTALL)
COMMENTS = {".js": r"//\s*(.*)", ".css": r"/\*\s*(.*?)\s*\*/", ".html": r"\{#-?\s*(.*?)\s*-?#\}"}


def rows(top: Path) -> str:
    """A heading per folder with its phrase, and a table of its files, in the order of the house."""
    files = sorted(source_files(top), key=place)
    sections = []
    for folder in dict.fromkeys(path.parent for path in files):
        inside = [path for path in files if path.parent == folder and path.name != "__init__.py"]
        table = [f"| `{path.name}` | {escaped(phrase(path))} |" for path in inside]
        title = f"### `{folder.relative_to(ROOT).as_posix()}/`"
        about = escaped(phrase(folder / "__init__.py"))
        sections.append(
            "\n".join([title, "", *([f"{about}.", ""] if about else []), "| file | what it is |", "| --- | --- |", *table])
        )
    return "\n" + "\n\n".join(sections) + "\n\n"


def source_files(top: Path) -> list[Path]:
    """Python, and what a page of HTML is made of."""
    return [path for path in top.rglob("*") if path.suffix in {".py", *COMMENTS}]


def place(path: Path) -> tuple[int, tuple[str, ...], str]:
    """Ground modules first, then the folders of the house in their order, a folder before what is in it."""
    parts = path.relative_to(ROOT).parts[1:]
    known = len(parts) > 1 and parts[0] in ORDER
    return (ORDER.index(parts[0]) if known else -1, parts[:-1], path.name)


def phrase(path: Path) -> str:
    """The first sentence of a module's docstring, or of the comment at a file's head, without its full stop."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if path.suffix == ".py":
        words = (ast.get_docstring(ast.parse(text)) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")
    else:
        found = re.search(COMMENTS[path.suffix], text)
        words = found[1] if found else ""
    return re.split(r"\.(?:\s|$)", words, maxsplit=1)[0]


def escaped(words: str) -> str:
    """Words that Markdown shows as they are written; code spans stay."""
    pieces = words.replace("|", r"\|").split("`")
    return "`".join(
        piece if i % 2 else re.sub(r"([*_])", r"\\\1", piece).replace("<", "&lt;") for i, piece in enumerate(pieces)
    )


def hyperparameters() -> str:
    """A table of every field of TrainConfig."""
    table = [f"| `{name}` | `{item.default}` | `{item.rule}` | {escaped(item.meaning)} |" for name, item in FIELDS.items()]
    return "\n".join(["", "| name | default | rule | meaning |", "| --- | --- | --- | --- |", *table, "", ""])


PAGES: dict[Path, Callable[[], str]] = {  # page -> what stands between its marks
    ROOT / "docs" / "architecture.md": partial(rows, PACKAGE),
    ROOT / "docs" / "benchmarks.md": partial(rows, ROOT / "benchmarks"),
    ROOT / "docs" / "reference.md": hyperparameters,
}


def with_rows(page: Path) -> str:
    """The page's text with rows as the code has them now."""
    return BLOCK.sub(lambda _: PAGES[page](), page.read_text(encoding="utf-8"), count=1)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_rows(page), encoding="utf-8")
    (ROOT / "search_spaces" / "schema.json").write_text(json_schema.text(), encoding="utf-8")
