"""What docstrings and the comments of conf/ say of keys and of choices: the words of the reference and of `--help`."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml

from drolt_pl.run.docstrings import docstrings

HIDDEN = ("hydra", "typed")  # groups of Hydra's own, and of types
REFERS = re.compile(r"\$\{([\w.]+)\}")
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
    """The first sentence of the comment at the head of a file, or of the docstring of our class that it names."""
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
    return next((first_sentence(docstrings(target)) for target in _targets(content)), "")


def sentence(text: str) -> str:
    """The first sentence of a text."""
    return re.split(r"(?<=[^.\d]\.)(?: |$)(?=[A-Z(`]|$)", text.strip(), maxsplit=1)[0].strip()


def choices(conf: Path) -> dict[str, dict[str, str]]:
    """By group, each choice with a line."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(conf.rglob("*.yaml"), key=lambda file: file.as_posix()):
        parts = file.relative_to(conf).parts
        if len(parts) > 1 and (parts[0] not in HIDDEN or parts[:2] == ("hydra", "launcher")):
            found.setdefault("/".join(parts[:-1]), {})[file.stem] = head(file)
    return found


def behind_keys(conf: Path) -> dict[str, str]:
    """The comments behind the keys of all files, by dotted key; files nearer to the top count first."""
    found: dict[str, str] = {}
    for file in sorted(conf.rglob("*.yaml"), key=lambda file: (len(file.parts), file.as_posix())):
        if file.relative_to(conf).parts[0] not in ("experiment", "sweep", "hydra"):
            for key, text in comments(file, conf).items():
                found.setdefault(_alike(key), text)
    return found


def of_key(behind: Mapping[str, str], key: str, value: object) -> str:
    """The comment behind a key, or behind the key that its value refers to."""
    other = REFERS.fullmatch(value) if isinstance(value, str) else None
    return behind.get(_alike(key)) or (behind.get(other[1], "") if other else "")


def _alike(key: str) -> str:
    """The key with a stage's name left open."""
    parts = key.split(".")
    return ".".join([*parts[:2], "STAGE", *parts[3:]]) if parts[:2] == ["schedule", "stages"] and parts[2:] else key


def shown(value: object) -> str:
    """A value as the configuration has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def first_sentence(docs: Iterable[str]) -> str:
    """The first sentence of the first docstring."""
    doc = next(iter(docs), "")
    return plain(sentence(" ".join(doc.split("\n\n")[0].split())))


@cache
def arguments(target: object) -> dict[str, str]:
    """The lines of the section `Args:` of a class and of its bases, by argument."""
    kinds = inspect.getmro(target) if inspect.isclass(target) else (target,)
    parts = [part for kind in kinds for part in (kind, vars(kind).get("__init__") if inspect.isclass(kind) else None)]
    return arguments_of(inspect.getdoc(part) or "" for part in parts if part is not None)


def arguments_of(docs: Iterable[str]) -> dict[str, str]:
    """The lines of the section `Args:` of docstrings, by argument; the first that has one counts."""
    found: dict[str, str] = {}
    for doc in docs:
        for names, text in _lines(doc):
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
    text = re.sub(r":math:(?=`)", "", re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text))
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
