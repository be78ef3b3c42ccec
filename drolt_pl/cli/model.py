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


def tell_passed_over(others: Counter[str] | None) -> None:
    """Counts files that are not called like an image on the error stream."""
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.data.images.suffixes import passed_over

    if others:
        print(escape.plain(passed_over(others)), file=sys.stderr)


def tell_unreadable(count: int, files: int, examples: Sequence[str]) -> None:
    """Lists files that could not be read on the error stream, and counts them."""
    if not count:
        return
    print(f"{count:,} of {files:,} files cannot be read:", file=sys.stderr)
    for sentence in examples:
        print(f"  {sentence}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    if count > len(examples):
        print(f"  and {count - len(examples):,} more", file=sys.stderr)
