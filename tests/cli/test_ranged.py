"""Numbers that options of commands are given: what is out of range ends in one sentence before anything is read."""

import inspect
from itertools import chain
from typing import get_args, get_type_hints

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.cli.data import app as data_app


def numeric() -> list[list[str]]:
    """Every command with each of its options that is a number, after what else it needs."""
    found = []
    for path, group in (([], app), (["data"], data_app)):
        for callback in (info.callback for info in group.registered_commands):
            assert callback is not None
            hints = get_type_hints(callback, include_extras=True)
            flags = {name: f"--{name.replace('_', '-')}" for name in hints}
            parameters = inspect.signature(callback).parameters.values()
            required = [one.name for one in parameters if one.default is one.empty]
            needed = [
                [flags[name], "x"] if any(isinstance(part, OptionInfo) for part in get_args(hints[name])) else ["x"]
                for name in required
            ]
            numbers = [name for name, hint in hints.items() if {int, float} & {*_within(hint)}]
            words = [*path, callback.__name__.replace("_", "-"), *chain(*needed)]
            found += [[*words, flags[name]] for name in numbers]
    return found


def _within(hint: object) -> tuple[object, ...]:
    first = get_args(hint)[:1]
    return (*first, *(part for one in first for part in get_args(one)))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e400", "9" * 30, "", "½", "0x10"])
@pytest.mark.parametrize("words", numeric(), ids=" ".join)
def test_a_number_out_of_range_is_one_sentence(words: list[str], value: str) -> None:
    ended = CliRunner().invoke(app, [*words, value])
    assert ended.exit_code in (1, 2), ended.output
    assert isinstance(ended.exception, SystemExit)
    assert words[-1] in ended.stderr, ended.stderr


def test_there_are_such_options() -> None:
    found = {" ".join(words) for words in numeric()}
    assert {"classifiers x --lr", "evaluate x --coverage", "predict x x --batch-size"} <= found


def test_what_a_range_asks_for_is_said() -> None:
    ended = CliRunner().invoke(app, ["classifiers", "x", "--lr", "nan", "--epochs", "0"])
    assert ended.exit_code == 1
    assert "--epochs must be a whole number >= 1, got 0" in ended.stderr
    assert "--lr must be >= 0 and <= 1000, got nan" in ended.stderr
