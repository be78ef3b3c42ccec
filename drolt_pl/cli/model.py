"""What the commands on a trained model share: how it is named, and where it runs."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from drolt_pl import escape, ranges

Source = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A run's folder, a checkpoint, or a file that `drolt export` wrote.")
]
Stage = Annotated[str | None, typer.Option(help="In a run's folder, the stage whose last epoch is taken.")]
Trust = Annotated[bool, typer.Option("--trust", help="Execute classes that the file names and that are not ours.")]
BatchSize = Annotated[ranges.Count, typer.Option(help="Images that go forward together.")]
Workers = Annotated[ranges.Workers, typer.Option(help="Processes that decode; 0 decodes in threads.")]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")]
TEST_PRIOR = "Class frequencies where the images come from: uniform, train, estimate, or a file (.json, .csv)."
TestPrior = Annotated[str | None, typer.Option(help=TEST_PRIOR, show_default="the probabilities stay as they are")]
ModelPrior = Annotated[
    str | None,
    typer.Option(
        help="Class frequencies that the probabilities assume: train, or uniform for methods that even them out.",
        show_default="what the model's file says, else train",
    ),
]


def share_cores() -> None:
    """Lets torch's threads sleep while they wait; spinning, they keep decoding threads from their cores.

    A value that the user has set stays. Once torch is imported, this could do nothing any more, and does nothing.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def tell_left_out(others: Counter[str] | None, count: int, files: int, examples: Sequence[str]) -> None:
    """Says on the error stream which files a command has left out.

    Args:
        others: Files that are not called like an image, by suffix.
        count: Files that could not be read.
        files: All that were to be read.
        examples: The sentences about the first of these.
    """
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.data.images.suffixes import passed_over
    from drolt_pl.data.sets.layout import counted

    if others:
        print(escape.plain(passed_over(others)), file=sys.stderr)
    if count:
        print(f"{count:,} of {counted(files, 'file')} cannot be read:", file=sys.stderr)
    for sentence in examples:
        print(f"  {sentence}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    if count > len(examples):
        print(f"  and {count - len(examples):,} more", file=sys.stderr)
