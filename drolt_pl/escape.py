"""Text of strangers made harmless for where it is shown: a function for each target.

Names of classes, files and runs, overrides and commands come from files that anybody may have written.
"""

import hashlib
import html
import re

# Control characters, separators of lines, marks that turn the direction of writing, and halves of a character.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes such a cell for a formula
_MARKDOWN = re.compile(r"[\\`*\[\]|]")
_NOT_IN_SPANS = re.compile(r"[\\`<>&]")
MAX_FILE_NAME = 120


def plain(text: str) -> str:
    """One line in which control characters are spelt out, an escape as backslash, x, 1b: for terminals and logs."""
    return _CONTROL.sub(_spelt, text)


def lines(text: str) -> str:
    """As `plain`, of a text of several lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def markup(text: str) -> str:
    """For a terminal through rich, whose markup is in brackets."""
    from rich.markup import escape  # imported here: the command line starts without rich

    return escape(plain(text))


def markdown(text: str) -> str:
    """For a line or a table's cell of Markdown: no HTML, no link, no further column."""
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(plain(text), quote=False))


def code(text: str) -> str:
    """For Markdown as code, also in a table's cell; with characters that could end the span, as HTML."""
    text = plain(text)
    return f"<code>{_entities(text)}</code>" if _NOT_IN_SPANS.search(text) else f"`{text}`".replace("|", r"\|")


def block(text: str) -> str:
    """For Markdown as a block of code of one line."""
    text = plain(text)
    return f"<pre>{_entities(text)}</pre>" if _NOT_IN_SPANS.search(text) else f"    {text}"


def cell(value: object) -> object:
    """For a cell of CSV: no control characters, and no formula where a spreadsheet opens the file.

    Examples:
        >>> cell("=1+1"), cell("-0.5"), cell(-0.5)
        ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    starts_formula = value.startswith(_FORMULA) and not _is_number(value)
    return plain(f"'{value}" if starts_formula else value)


def label(text: str, length: int = 80) -> str:
    """For a figure: no formulas of mathtext, and no label that fills the figure."""
    text = plain(text)
    return (text if len(text) <= length else f"{text[: length - 3]}...").replace("$", r"\$")


def file_name(text: str) -> str:
    """For the name of a file: no folder, and not too long; a changed name ends in a hash of the whole one."""
    safe = re.sub(r"[^\w.,=+@() -]", "_", plain(text))[:MAX_FILE_NAME].lstrip(".")
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _entities(text: str) -> str:
    """Nothing of it is HTML, and nothing Markdown."""
    return re.sub(r"[^\w .,:;=/+-]", lambda found: f"&#{ord(found[0])};", text)


def _spelt(found: "re.Match[str]") -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
