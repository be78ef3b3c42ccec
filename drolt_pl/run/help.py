"""The text of `python train.py --help`: every choice, and the keys of a configuration with their values and a line."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from drolt_pl.run import comments
from drolt_pl.run.compose import composed
from drolt_pl.run.docstrings import docstrings

USAGE = """\
python train.py [KEY=VALUE ...]       trains one run; drolt train is the same command
python train.py -m KEY=VALUE,VALUE    trains a sweep, a run for each combination
GROUP=CHOICE takes a file of conf/GROUP, ~KEY takes a key away, --cfg job prints the whole configuration
`drolt reference --out FILE` writes what each key may be, and the keys of all choices: docs/configuration.md
"""
SETTINGS = "drolt_pl.run.settings.Settings"

Entry = tuple[str, object, str]  # a key, its value, and what it does


def render_help(conf: Path, overrides: Sequence[str]) -> str:
    """The text for some overrides, as wide as the terminal.

    Raises:
        SettingError: an override cannot be applied.
    """
    width = min(shutil.get_terminal_size().columns, 120)
    config = composed(conf, overrides, with_hydra=True)
    chosen = config.hydra.runtime.choices
    lines = [USAGE]
    for group, choices in comments.choices(conf).items():
        lines.append(f"{group}: {chosen.get(group) or 'none'}")
        lines += [_wrapped(f"  {name:<26}", text, width) for name, text in choices.items()]
    lines.append("\nkeys, with their values here:")
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    del values["hydra"]
    behind, general = comments.behind_keys(conf), comments.arguments_of(docstrings(SETTINGS))
    for name, value in values.items():
        for key, own, text in _entries(str(name), value, general.get(str(name), "")):
            lines.append(f"{key} = {comments.shown(own)}")
            said = text or comments.of_key(behind, key, own)
            lines += [_wrapped("    ", said, width)] if said else []
    return "\n".join(lines) + "\n"


def _entries(key: str, value: object, text: str) -> Iterator[Entry]:
    """A key, or the keys below it; of a class, with the lines of its docstring."""
    if not isinstance(value, Mapping) or not value:
        yield key, value, text
        return
    target = str(value.get("_target_", ""))
    arguments = comments.arguments_of(docstrings(target))
    for name, own in value.items():
        if name == "_target_":
            yield f"{key}._target_", own, comments.first_sentence(docstrings(target))
        elif not str(name).startswith("_"):
            yield from _entries(f"{key}.{name}", own, arguments.get(str(name), ""))


def _wrapped(start: str, text: str, width: int) -> str:
    return (
        textwrap.fill(text, width, initial_indent=start, subsequent_indent=" " * max(len(start), 4)) or start.rstrip()
    )
