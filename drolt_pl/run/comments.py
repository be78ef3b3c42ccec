"""What docstrings and the comments of conf/ say of keys and of choices: the words of the reference and of `--help`."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

PACKAGE = re.compile(r"# @package (\S+)")
KEY = re.compile(r"^( *)([\w.]+):(?: |$)(.*)$")
ARGUMENT = re.compile(r"^    ([\w, ]+): (.*)$")
LEADING = re.compile(r"^[a-z]")


def package_of(file: Path, conf: Path) -> str:
    """The dotted key at which a file's content is placed; empty for the top level."""
    found = PACKAGE.match(file.read_text(encoding="utf-8"))
    if found:
        return "" if found[1] == "_global_" else found[1]
    return ".".join(file.relative_to(conf).parent.parts)


def comments(file: Path, conf: Path) -> dict[str, str]:
    """The comments behind the keys of a file, by dotted key of the configuration."""
    above: list[tuple[int, str]] = [(-1, package_of(file, conf))]
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        match = KEY.match(line)
        if match is None:
            continue
        while above[-1][0] >= len(match[1]):
            above.pop()
        key = f"{above[-1][1]}.{match[2]}".lstrip(".")
        above.append((len(match[1]), key))
        _, mark, comment = match[3].rpartition("  # ") if "  # " in match[3] else match[3].partition(" # ")
        if mark or match[3].startswith("# "):
            found[key] = comment.strip() or match[3].removeprefix("# ")
    return found


def head(file: Path) -> str:
    """The first sentence of the comment at the head of a file, or of the docstring of the class that it names."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not PACKAGE.match(line):
            lines.append(line.removeprefix("#").strip())
    text = sentence(" ".join(lines))
    if text:
        return text
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return next((summary(target) for target in _targets(content)), "")


def sentence(text: str) -> str:
    """The first sentence of a text."""
    return re.split(r"(?<=[^.\d]\.)(?: |$)(?=[A-Z(`]|$)", text.strip(), maxsplit=1)[0].strip()


@cache
def summary(target: str) -> str:
    """The first sentence of the docstring of what a dotted path names."""
    from hydra.utils import get_object

    return plain(sentence(" ".join((inspect.getdoc(get_object(target)) or "").split("\n\n")[0].split())))


@cache
def arguments(target: object) -> dict[str, str]:
    """The lines of the section `Args:` of a class and of its bases, by argument."""
    found: dict[str, str] = {}
    kinds = inspect.getmro(target) if inspect.isclass(target) else (target,)
    for kind in kinds:
        for part in (kind, vars(kind).get("__init__") if inspect.isclass(kind) else None):
            for names, text in _lines(inspect.getdoc(part) or "" if part is not None else ""):
                for name in names:
                    found.setdefault(name, text)
    return found


def _lines(doc: str) -> Iterator[tuple[list[str], str]]:
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", doc, flags=re.MULTILINE | re.DOTALL)
    names: list[str] = []
    words: list[str] = []
    for line in (section[1] if section else "").splitlines():
        match = ARGUMENT.match(line)
        if match:
            if names:
                yield names, plain(" ".join(words))
            names, words = [name.strip() for name in match[1].split(",")], [match[2].strip()]
        else:
            words.append(line.strip())
    if names:
        yield names, plain(" ".join(words))


def plain(text: str) -> str:
    """A docstring's text without roles of Sphinx, in one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def _targets(content: object) -> Iterator[str]:
    if isinstance(content, dict):
        if isinstance(content.get("_target_"), str):
            yield content["_target_"]
        for value in content.values():
            yield from _targets(value)
    elif isinstance(content, list):
        for value in content:
            yield from _targets(value)
