"""Names of images, classes, centers and groups: one rule, whichever reader they come from and whichever file they go to."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from tune_btxrd.errors import DataError

LONGEST_NAME = 128  # characters; ids become file names and table cells, and 255 bytes is what file systems hold
BLANKS = ("", "nan", "#n/a")  # lower case; how tables write "no value". "None" and "NA" may be class names
FEWEST_CLASSES = 2
RUNS = re.compile(r"[=@]|[+-].*[(|!]")  # a spreadsheet would run it; "+ve" and "- no lesion" it would only fail to show


def check_name(value: str, what: str) -> None:
    """Refuses text that cannot be a name: blank, over 128 characters, with invisible characters or outer spaces, a formula.

    Raises:
        DataError: naming `what` (e.g. "image_id in row 7") and the value.
    """
    if len(value) > LONGEST_NAME:
        raise DataError(
            f"{what} must have at most {LONGEST_NAME} characters, but got {len(value)} ({value[:24]!r}...): shorten it."
        )
    if not value.isprintable() or value != value.strip():
        raise DataError(f"{what} must be printable text, but got {value!r}: remove invisible characters and outer spaces.")
    if value.lower() in BLANKS:
        raise DataError(f"{what} must be a name, but got {value!r}, which tables read as blank: rename it.")
    if RUNS.match(value):
        raise DataError(f"{what} must be plain text, but got the formula {value[:60]!r}: rename it, or write its value.")


def check_id(image_id: str, what: str) -> None:
    """Refuses an image id that is more than a name: ids become file names.

    Raises:
        DataError: naming `what` and the id.
    """
    check_name(image_id, what)
    if image_id in (".", "..") or "/" in image_id or "\\" in image_id:
        raise DataError(f"{what} must be a plain name without a folder, but got {image_id!r}: rename it.")


def check_label_names(names: Collection[str], where: str) -> None:
    """Refuses labels that a reader, a person or a file system would take for one another, and none. Raises: DataError."""
    _check_distinct(names, where, "label", "Labels")
    if not names:
        raise DataError(f"{where} must hold a label, but holds none: add one.")


def check_class_names(names: Collection[str], where: str) -> None:
    """Refuses classes that a reader, a person or a file system would take for one another, and too few of them.

    Raises:
        DataError: naming the classes.
    """
    _check_distinct(names, where, "class", "Classes")
    if len(names) < FEWEST_CLASSES:
        held = repr(next(iter(names))) if names else "none"
        raise DataError(f"{where} must hold at least two classes, but holds only {held}: add another.")


def _check_distinct(names: Collection[str], where: str, noun: str, plural: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        check_name(name, f"A {noun} of {where}")
        if (other := seen.setdefault(same_spelling(name).casefold(), name)) != name:
            first, second = apart(other, name)
            raise DataError(
                f"{plural} must differ in more than case and spelling of accents, but {where} has {first} and {second}: "
                "use one of them."
            )


def is_formula(value: str) -> bool:
    """Whether a spreadsheet would compute this text: it starts with = or @, or with + or - and is no number and no dash."""
    signed = value.startswith(("+", "-"))
    return value.startswith(("=", "@")) or (signed and not re.fullmatch(r"[+-]+|[+-]\d*\.?\d+(e[+-]?\d+)?", value))


def same_spelling(name: str) -> str:
    """One spelling of accented and non-Latin names: macOS writes some of them decomposed."""
    return unicodedata.normalize("NFC", name)


def as_spelled(names: Iterable[str], known: Collection[str]) -> list[str]:
    """The names as `known` spells them: composed and decomposed accents are one name. Others stay as they are."""
    wanted = list(names)
    if all(name in known or name.isascii() for name in wanted):
        return wanted
    own: dict[str, list[str]] = {}
    for name in known:
        own.setdefault(same_spelling(name), []).append(name)
    meant = [[name] if name in known else own.get(same_spelling(name), []) for name in wanted]
    return [fits[0] if len(fits) == 1 else name for name, fits in zip(wanted, meant, strict=True)]


def apart(one: str, other: str) -> tuple[str, str]:
    r"""Both names, quoted, for a message; with their escapes where they look alike: 'é' (\xe9) and 'é' (e\u0301)."""
    if not _look_alike(one, other):
        return repr(one), repr(other)
    return f"{one!r} ({ascii(one)[1:-1]})", f"{other!r} ({ascii(other)[1:-1]})"


def _look_alike(one: str, other: str) -> bool:
    """Whether two names differ only in how letters are encoded, or in letters of other scripts in a Latin word."""
    first, second = (unicodedata.normalize("NFKC", name).casefold() for name in (one, other))
    if one == other or (one.isascii() and other.isascii()) or len(first) != len(second):
        return False
    return all(
        a == b or (a.isascii() != b.isascii() and a.isalpha() == b.isalpha()) for a, b in zip(first, second, strict=True)
    )


def examples(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message: "a, b, c and 4 more"."""
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
