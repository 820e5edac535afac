"""Names for Ray and Prometheus, which take ASCII alone: one reversible mapping."""

from urllib.parse import quote, unquote


def ascii_name(text: str) -> str:
    """The text with all beyond printable ASCII, and the percent sign, as in a URL: `Röntgen` -> `R%C3%B6ntgen`."""
    return "".join(
        letter if " " <= letter <= "~" and letter != "%" else quote(letter, errors="surrogatepass") for letter in text
    )


def original_name(name: str) -> str:
    """The inverse of `ascii_name`."""
    return unquote(name, errors="surrogatepass")
