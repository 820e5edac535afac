"""The README's tree: every module with the first sentence of its docstring. Written by `make format`."""

import ast
import re
from pathlib import Path

from tests.support.paths import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=<!-- tree: make format writes it -->\n\n```\n).*?(?=```)", re.DOTALL)
WIDTH = 26


def tree() -> str:
    """One line per module of the package and of `benchmarks/`, folders before what is in them."""
    lines = []
    for top in ("tune_btxrd", "benchmarks"):
        folder = None
        for path in sorted((ROOT / top).rglob("*.py"), key=lambda path: (path.parent, path.name)):
            if path.parent != folder:
                folder = path.parent
                lines.append(f"{folder.relative_to(ROOT).as_posix()}/")
            if phrase := first_sentence(path):
                lines.append(f"  {path.name:<{WIDTH}}{phrase}")
    return "\n".join(lines) + "\n"


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"\.(?:\s|$)", words.split("\n\n", maxsplit=1)[0].replace("\n", " "), maxsplit=1)[0]


if __name__ == "__main__":
    README.write_text(BLOCK.sub(lambda _: tree(), README.read_text(encoding="utf-8"), count=1), encoding="utf-8")
