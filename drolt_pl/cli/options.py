"""Options that several commands have."""

from typing import Annotated

import typer

Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Import and build classes of your own that the run's folder names. Not for strangers'."
    ),
]
