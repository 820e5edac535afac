"""Recipes of `docs/extending.md`: their blocks, read from the page and applied to a copy of the project."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "extending.md"
COPIED = ("tune_btxrd", "tests", "search_spaces", "pyproject.toml", "docs/architecture.md", "docs/benchmarks.md")
FENCE = re.compile(r'^```(?P<kind>\w+) title="(?P<path>[^"]+)"\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A change of one file: `diff` edits it, any other kind is its whole text."""

    kind: str
    path: str
    text: str

    @property
    def is_test(self) -> bool:
        """Whether pytest runs it."""
        return Path(self.path).name.startswith("test_")

    def apply(self, root: Path) -> None:
        """Changes the file below `root`. Raises: AssertionError where the page no longer fits the code."""
        target = root / self.path
        if self.kind != "diff":
            assert not target.exists(), f"{self.path} is to be new, but exists"
            target.write_text(self.text, encoding="utf-8")
            return
        content = target.read_text(encoding="utf-8")
        for hunk in re.split(r"^@@\n", self.text, flags=re.MULTILINE):
            old, new = side(hunk, "-"), side(hunk, "+")
            assert content.count(old) == 1, f"{self.path} must hold once, but holds {content.count(old)} times:\n{old}"
            content = content.replace(old, new)
        target.write_text(content, encoding="utf-8")


def side(hunk: str, sign: str) -> str:
    """The lines of a hunk before (`-`) or after (`+`) the change."""
    return "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in (" ", sign))


def recipes() -> dict[str, tuple[Block, ...]]:
    """Heading -> its blocks, for every heading of the page that has any."""
    sections = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(sections[::2], sections[1::2], strict=True)
    found = {title: tuple(Block(**match.groupdict()) for match in FENCE.finditer(text)) for title, text in pairs}
    return {title: blocks for title, blocks in found.items() if blocks}


def copy_project(target: Path) -> None:
    """What a recipe changes and what its tests need, without git and without what was built."""
    for name in COPIED:
        source, goal = ROOT / name, target / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, goal)
