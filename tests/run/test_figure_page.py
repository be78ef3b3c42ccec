"""docs/paper.md: its commands, figures and tables; and a page of commands in general."""

import re
from pathlib import Path

import pytest
from helpers.running import HOME
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.errors import SettingError
from drolt_pl.run.figures.names import FIGURES
from drolt_pl.run.figures.page import Made, commands, filled

PAGE = HOME / "docs" / "paper.md"
CSV = '"run","group","ece"\n"CE","many",0.1\n"CE","few",0.2\n"CE","few",0.4\n"x|y","many",0.5\n'


def test_every_figure_of_the_page_has_its_command_numbers_and_picture() -> None:
    text = PAGE.read_text()
    made = list(commands(text, HOME))
    assert {command.name for command in made} == FIGURES.keys()
    for command in made:
        assert (command.out / f"{command.stem}.csv").is_file()
        assert (command.out / f"{command.stem}.png").stat().st_size < 300_000
        assert f"(figures/{command.stem}.png)" in text
    assert set(re.findall(r"\(figures/(\w+)\.png\)", text)) == {command.stem for command in made}


def test_the_tables_of_the_page_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOME)
    result = CliRunner().invoke(app, ["paper", "docs/paper.md", "--check"])
    assert result.exit_code == 0, result.output


def test_a_page_is_drawn_from_its_numbers_and_its_tables_are_filled(tmp_path: Path) -> None:
    (tmp_path / "bias.csv").write_text(
        '"run","tau","acc","many","medium","few"\n"CE",0.0,0.5,0.9,0.5,0.1\n"CE",1,0.6,0.8,0.5,0.4\n'
    )
    page = tmp_path / "page.md"
    table = "<!-- table bias run - many,few -->\nold\n<!-- end -->\n"
    page.write_text(f"# A page\n\n    drolt figure frontier '$RUNS/a b:joint' --out {tmp_path} --as bias\n\n{table}")
    result = CliRunner().invoke(app, ["paper", str(page)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "bias.png").is_file()
    assert "| CE | 0.85 | 0.25 |" in page.read_text()
    again = CliRunner().invoke(app, ["paper", str(page), "--check"])
    assert (again.exit_code, again.output) == (0, "")
    page.write_text(page.read_text().replace("0.25", "0.99"))
    stale = CliRunner().invoke(app, ["paper", str(page), "--check"])
    assert stale.exit_code == 1
    assert "is not up to date: run `drolt paper" in stale.output


def test_tables_take_means_and_name_what_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "ece.csv").write_text(CSV)
    text = filled("<!-- table ece run group ece -->\n<!-- end -->", tmp_path)
    assert text.splitlines()[1:-1] == [
        "| run | many | few |",
        "| --- | --: | --: |",
        "| CE | 0.1 | 0.3 |",
        r"| x\|y | 0.5 | - |",
    ]
    chosen = filled("<!-- table ece run group ece run=CE -->\n<!-- end -->", tmp_path)
    assert "x" not in chosen.split("-->")[1]


def test_tables_have_the_interval_over_three_seeds(tmp_path: Path) -> None:
    rows = "".join(f'"DRO-LT",{seed},"few",{value}\n' for seed in range(3) for value in (seed, seed + 2))
    (tmp_path / "errors.csv").write_text(f'"run","seed","group","error"\n{rows}"CE",0,"few",5\n')
    text = filled("<!-- table errors run group error -->\n<!-- end -->", tmp_path)
    assert text.splitlines()[3:5] == ["| DRO-LT | 2 ± 2.5 |", "| CE | 5 |"]  # 4.303 / 3 ** 0.5 times a deviation of 1


def test_commands_name_runs_relative_to_the_page_or_by_variable(tmp_path: Path) -> None:
    (tmp_path / "kept.json").touch()
    line = "    drolt figure fig4 'C=$RUNS/a:joint' 'D=kept.json' --out docs/figures --as four"
    (made,) = commands(line, tmp_path)
    assert made == Made(
        "fig4", ("C=$RUNS/a:joint", f"D={tmp_path / 'kept.json'}"), tmp_path / "docs" / "figures", "four"
    )
    with pytest.raises(SettingError, match="must give every figure a name and --out"):
        list(commands("    drolt figure fig4 x", tmp_path))
