"""Pages: what documentation tells people to type, read from its code blocks."""

import re
import shlex
from pathlib import Path

from tests.support.paths import ROOT

HISTORY = {"LOG.md", "CHANGELOG.md", "changelog.md"}  # what was true once may stay there
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROWS = re.compile(r"<!-- rows: .*?<!-- end of rows -->", re.DOTALL)  # first sentences of modules, benchmarks' own flags too
OTHERS = r"`(?:ray|bandit|pip-audit|tensorboard|pre-commit|pip|pytest|mkdocs)\b[^`]*`"  # other tools have flags of their own


def pages() -> list[Path]:
    """Every page of documentation that says what is true now."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / name for name in FOLDER_PAGES)]
    return sorted(page for page in found if page.name not in HISTORY)


FOLDER_PAGES = ("ray_results/README.md", "checkpoints/README.md", "tests/README.md")


def commands(text: str) -> list[list[str]]:
    """The words of every command in the code blocks, comments left out and continued lines joined."""
    lines = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
        return words[: words.index(">")] if ">" in words else words
    except ValueError:  # code in another language, with a quote of its own
        return []


def prose_flags(text: str) -> set[str]:
    """Flags named in a page's prose and tables; those of other tools left out."""
    prose = re.sub(OTHERS, "", FENCE.sub("", ROWS.sub("", text)))
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose))
