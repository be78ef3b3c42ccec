"""The colours of all figures: any colour vision tells them apart (Okabe & Ito 2008), and marks differ too."""

from drolt_pl.groups import COLOURS

GROUP_COLOURS = {"all": "#3b3b3b", **COLOURS}
GROUP_MARKERS = {"all": "D", "many": "o", "medium": "s", "few": "^"}
RUN_COLOURS = ("#cc79a7", "#56b4e9", "#e69f00", "#999999")  # runs beside each other, in the order of the command
RUN_LINES = ("--", "-", ":", "-.")
GREY = "#888888"


def of_run(place: int) -> str:
    """The colour of a run by its place in the command; more runs than colours begin again."""
    return RUN_COLOURS[place % len(RUN_COLOURS)]


def line_of_run(place: int) -> str:
    """The line of a run by its place in the command."""
    return RUN_LINES[place % len(RUN_LINES)]
