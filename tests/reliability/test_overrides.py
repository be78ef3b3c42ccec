"""Malformed overrides end in one sentence that names the key: no traceback, crash, hang or folder is left."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.attempts import attempts
from helpers.malformed import Case, choices, malformed, roots

# Command lines that begin a run, and why that is right; searched for in their last word.
RIGHT = {
    r"=\{\}$": "an empty mapping adds nothing to the one that is there",
    r"^~schedule\.stages\.\w+$": "a schedule may have fewer stages",
    r"^~schedule\.stages\.\w+\.\w+(\.\w+)*$": "a stage's key that is left out has its default",
    r"^~": "a key with a default may be left out",
    r"(lr|weight_decay|momentum|decay|backbone_factor|warmup_epochs)(\.\w+)?=0$": "they may be nought",
    r"(weight|gamma|smoothing|prob\w*|magnitude|size|flip|padding|shift|smooth\w*|eps|eps_prior|ce_weight|epochs)=0$": (
        "nought switches it off"
    ),
    r"seed=(0|\d{6,9})$": "any whole number that NumPy takes is a seed",
    r"=null$": "null is the default, or stands for one",
    r"(dir|path|root|file|weights|index)='(\.\./\.\./x|٣)'$": "a path of the user's own",
    r"(name|project|group|entity|notes|version|tags|prefix)=": "a name is any printable text",
    r"=(true|0|1\.5|\[1,2\])$": "of the key's type, and in its range",
    r"='(1|٣)'$": "a number in quotes is that number, in the digits of any script",
    r"limit_\w+=\d+$": "a limit may lie beyond what there is",
}
# What a machine without these data sets and without a GPU says first.
ABSENT = (
    "dataset.root must",
    "dataset.index must",
    "dataset.file must",
    "dataset.manifest must",
    "trainer.accelerator=gpu",
)


def check(cases: list[Case], folder: Path) -> dict[str, int]:
    """Tries them; counts those refused and those taken."""
    root, manifest = roots(folder)
    data = {"dataset=image_folder": [root], "dataset=manifest": [root, manifest]}
    lines = [[*data.get(case.base, []), *case.words] for case in cases]
    counts = {"refused": 0, "taken, with a reason": 0}
    wrong = []
    for case, ended in zip(cases, attempts(lines), strict=True):
        try:
            counts[_judged(case, ended)] += 1
        except AssertionError as error:
            wrong.append(str(error).splitlines()[0])
    assert not wrong, "\n".join(wrong)
    return counts


def _judged(case: Case, ended: dict[str, Any]) -> str:
    said, words = ended["said"].strip(), " ".join(case.words)
    assert not ended["hung"], words
    assert not ended["signal"], words
    assert "Traceback" not in said, f"{words}: {said}"
    reasons = [reason for pattern, reason in RIGHT.items() if re.search(pattern, case.words[-1])]
    if ended["code"] == 0:
        assert reasons, f"{words}: taken, and nobody says why"
        return "taken, with a reason"
    assert ended["left"] == [], words
    assert said.startswith("error: "), f"{words}: {said}"
    if not (reasons and any(name in said for name in ABSENT)):  # the value is right, and the data is not here
        for problem in said.splitlines()[1:] or [said]:  # several members of one list may each have a line
            assert _names(problem, case.key), f"{words}: {said}"
    return "refused"


def _names(said: str, key: str) -> bool:
    """Whether a sentence names a key in full; stages that fail together stand in braces."""
    stages = re.search(r"schedule\.stages\.\{([\w,]+)\}\.(\w+)", said)
    together = [f"schedule.stages.{name}.{stages[2]}" for name in stages[1].split(",")] if stages else []
    return key in said or key in together


Record = Callable[[str, int], None]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_five_hundred_malformed_overrides(seed: int, tmp_path: Path, record_property: Record) -> None:
    counts = check(malformed(500, seed), tmp_path)
    for kind, number in counts.items():
        record_property(f"overrides {kind}", number)
    assert sum(counts.values()) == 500
    assert counts["taken, with a reason"] < 25


@pytest.mark.slow
def test_every_group_refuses_what_is_no_choice_of_it(tmp_path: Path) -> None:
    assert check(list(choices()), tmp_path)["taken, with a reason"] == 0
