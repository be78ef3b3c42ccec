"""docs/configuration.md and `python train.py --help`: one source, a line for every key and every choice."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import HOME, composed
from hydra.utils import get_object

from drolt_pl.run import comments
from drolt_pl.run.compose import composed as compose
from drolt_pl.run.conf import CONF
from drolt_pl.run.docstrings import docstrings
from drolt_pl.run.help import render_help
from drolt_pl.run.reference import Reference
from drolt_pl.run.reference_page import OBJECTS, render_page

REFERENCE, CHOICES = Reference(CONF), comments.choices(CONF)


def test_the_page_is_that_of_the_configuration() -> None:
    assert (HOME / "docs" / "configuration.md").read_text() == render_page(CONF), "run `make reference`"


def test_every_key_and_every_choice_has_a_line() -> None:
    keys = REFERENCE.keys(compose(CONF))
    others = [entry for group in OBJECTS for name in CHOICES[group] for entry in REFERENCE.keys_of_choice(group, name)]
    assert len(keys) > 150
    assert [entry.key for entry in [*keys, *others] if not entry.text and entry not in keys] == []
    assert [entry.key for entry in keys if not entry.text] == []
    assert [(group, name) for group, choices in CHOICES.items() for name in choices if not choices[name]] == []


def test_the_keys_are_those_that_a_run_has() -> None:
    """Every key of the composed configuration stands in the reference, and no other value."""
    entries = {entry.key: entry.value for entry in REFERENCE.keys(compose(CONF))}
    config = composed()
    assert entries["loss.bound"] == config.loss.bound
    assert entries["dataset.imbalance_ratio"] == str(config.dataset.imbalance_ratio)
    missing = {f"loss.{key}" for key in config.loss if key != "_target_"} - entries.keys()
    missing |= {f"dataset.{key}" for key in config.dataset if key != "_target_"} - entries.keys()
    assert not missing


def test_help_shows_the_overrides_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = render_help(CONF, ["dataset=cifar100_lt", "loss.eps=2"])
    assert "dataset: cifar100_lt\n" in text
    assert "\nloss.eps = 2\n" in text
    assert "dataset.download = false\n    Whether " in text
    texts = [line for line in text.splitlines() if line.startswith("    ")]
    assert max(map(len, texts)) <= 100


def test_comments_and_docstrings_are_read(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    file = tmp_path / "group" / "a.yaml"
    file.write_text("# What it is. And more.\nx:  # of x\n  y: 1  # of y, a # inside\nz: 'a#b'\n")
    assert comments.comments(file, tmp_path) == {"group.x": "of x", "group.x.y": "of y, a # inside"}
    assert comments.head(file) == "What it is."


def test_help_imports_no_torch() -> None:
    program = (
        "import sys; from drolt_pl.cli.train import main; sys.argv = ['train.py', '--help']; main(); "
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == render_help(CONF, [])


def test_docstrings_are_read_as_python_reads_them() -> None:
    """Of every class that the configuration names, without importing it."""
    named = {entry.value for entry in REFERENCE.keys(compose(CONF)) if entry.key.endswith("_target_")}
    ours = sorted(name for name in named if name.startswith("drolt_pl."))
    assert len(ours) > 20
    for name in ours:
        read, all_bases = comments.arguments_of(docstrings(name)), comments.arguments(get_object(name))
        assert read.items() <= all_bases.items(), name  # which has those of torch's classes too
        assert comments.first_sentence(docstrings(name)), name


class Documented:
    """One thing.

    Args:
        a, b: Of :func:`~drolt_pl.x.y`,
            over two lines.
        c: Third.

    Raises:
        ValueError: never.
    """


def test_arguments_of_docstrings() -> None:
    both = "Of `y`, over two lines."
    assert comments.arguments(Documented) == {"a": both, "b": both, "c": "Third."}
