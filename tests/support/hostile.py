"""Names that other languages read as markup: one set, sent through every reader, verb and picture.

from tests.support.hostile import CLASS_NAMES, FILE_STEMS, THROUGH_A_SHELL
"""

MARKUP = (
    "$",  # mathtext
    "$$x",
    r"$\frac{1}",
    "[b]",  # rich
    "[/x]",
    "[red]a[/red]",
    "{0}",  # str.format
    "{a.b}",
    "%s",  # the other format
    "%(x)d",
    "a?b=1&c",  # URLs
    "a#b",
    "'",  # quotes: shells, SQL, JavaScript
    '"',
    "`id`",
    "<b>&amp;",  # HTML
    r"\textbf{x}_^~",  # LaTeX
    "a*[b]+(c",  # globs and regular expressions
    "_legend",  # matplotlib keeps such labels out of a legend
    "a,b;c",  # CSV
    "a=1",
    "-x",  # a flag
    "🦴 骨",
    "Ω ä é",
    "\u202egnp",  # right to left override
    "x\u200fy",  # right-to-left mark
)
LONG = "l" * 200
NEWLINE = "a\nb"

PRINTABLE = tuple(name for name in MARKUP if name.isprintable() and "\\" not in name)  # what an id or a class may be
FILE_STEMS = tuple(name for name in PRINTABLE if "/" not in name)  # what a file may be called
CLASS_NAMES = FILE_STEMS
EVERYTHING = (*MARKUP, LONG, NEWLINE, "\ud800")  # also what readers refuse: for helpers that take any text
