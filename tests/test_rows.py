"""The numbers of a figure and their CSV."""

import math

import pytest

from drolt_pl.errors import SettingError
from drolt_pl.rows import (
    averaged,
    from_csv,
    labelled,
    number,
    over_seeds,
    said_of_seeds,
    text,
    to_csv,
    where,
)

ROWS = [
    {"class": "0", "images": 104, "radius": 1 / 3},
    {"class": 'a "b", c', "images": 2, "radius": math.nan},
]


def test_a_csv_gives_its_rows_again_and_itself() -> None:
    found = from_csv(to_csv(ROWS), "x.csv")
    assert [row["class"] for row in found] == [row["class"] for row in ROWS]  # a digit's name stays a text
    assert found[0]["radius"] == 0.333333
    assert math.isnan(number(found[1], "radius"))
    assert to_csv(found).replace("104.0", "104").replace(",2.0,", ",2,") == to_csv(ROWS)


def test_a_name_that_is_a_formula_does_not_run_in_a_spreadsheet() -> None:
    (row,) = from_csv(to_csv([{"class": "=1+1"}]), "x.csv")
    assert not text(row, "class").startswith("=")


@pytest.mark.parametrize("wrong", ["", '"a","b"\n1\n', '"a"\nx\n', '"a"\n"unclosed'])
def test_other_files_are_a_sentence(wrong: str) -> None:
    with pytest.raises(SettingError, match=r"x\.csv must be the numbers of a figure"):
        from_csv(wrong, "x.csv")


def test_rows_that_differ_are_our_fault() -> None:
    with pytest.raises(ValueError, match="same columns"):
        to_csv([{"a": 1.0}, {"b": 1.0}])


def test_columns_of_the_wrong_kind_are_a_sentence() -> None:
    rows = labelled("CE", ROWS)
    assert where(rows, run="CE") == rows
    with pytest.raises(SettingError, match="class must be a column of numbers"):
        number(rows[0], "class")
    with pytest.raises(SettingError, match="run must be a column of texts"):
        text(ROWS[0], "run")


def test_rows_of_several_seeds_become_their_means() -> None:
    rows = [
        {"run": "a", "seed": seed, "bin": place, "value": value}
        for seed, values in enumerate([(1.0, 2.0), (3.0, float("nan"))])
        for place, value in enumerate(values)
    ]
    assert [[row["seed"] for row in alike] for alike in over_seeds(rows, "bin")] == [[0, 1], [0, 1]]
    assert [row["value"] for row in averaged(rows, "bin")] == [2.0, 2.0], "what was not measured is left out"
    assert averaged(rows[:2], "bin") == rows[:2]


def test_rows_say_of_which_seeds_they_are() -> None:
    assert said_of_seeds([{"run": "a"}]) == ""
    assert said_of_seeds([{"run": "a", "seed": 3.0}]) == "one run, seed 3"
    assert said_of_seeds([{"run": name, "seed": 0.0} for name in "ab"]) == "one run each, seed 0"
    assert said_of_seeds([{"seed": float(seed)} for seed in (2, 0)]) == "seeds 0, 2"
    assert said_of_seeds([{"seed": float(seed)} for seed in range(30)]) == "30 seeds"
