"""Figure text: names of files, classes and datasets as pictures can show them: no markup, one line, glyphs that exist."""

from functools import cache

MISSING = "\N{WHITE SQUARE}"  # stands for a character that the font lacks
LONGEST = 60  # characters


def one_line(text: object) -> str:
    """The text with one visible sign for each line break, mark of direction and half of a surrogate pair in it."""
    return "".join(character if character.isprintable() else MISSING for character in str(text))


def figure_text(text: object, *, longest: int = LONGEST) -> str:
    """Text for matplotlib, shown as it is.

    A `$` starts no formula, a leading `_` does not keep a line out of the legend, a character that the font lacks is a
    square instead of a warning, and of a long text beginning and end are left.
    """
    shown = one_line(text)
    if len(shown) > longest:
        shown = f"{shown[: longest - longest // 3 - 1]}…{shown[-(longest // 3) :]}"
    shown = "".join(character if ord(character) in _glyphs() else MISSING for character in shown)
    return (f" {shown}" if shown.startswith("_") else shown).replace("$", r"\$")


@cache
def _glyphs() -> frozenset[int]:
    """Code points that matplotlib's own font draws."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
