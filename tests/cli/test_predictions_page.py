"""Every command and the Python of docs/predictions.md run, on a small model."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.models import write_model
from helpers.photos import write_photos
from helpers.running import HOME
from typer.testing import CliRunner

from drolt_pl.cli.app import app

PAGE = (HOME / "docs" / "predictions.md").read_text()
README = (HOME / "README.md").read_text()
COMMANDS = sorted(
    {
        line.split(" #")[0].strip()
        for block in re.findall(r"```bash\n(.*?)```", PAGE + README, flags=re.DOTALL)
        for line in block.splitlines()
        if re.search(r"\bdrolt(_pl)? (info|predict|evaluate|export) ", line)
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "outputs/DAY/TIME/checkpoints").mkdir(parents=True)
    write_model(folder / "outputs/DAY/TIME/checkpoints/best.ckpt")
    for name in ("photos", "labelled", "photos/test", "new_photos", "held_out"):
        write_photos(folder / name, each=1)
    (folder / "more.png").write_bytes((folder / "photos/cat/0.jpg").read_bytes())
    (folder / "names.txt").write_text("more.png\n")
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if line.startswith("torchrun"):
        pytest.skip("test_two_ranks_write_what_one_does runs it")
    _, _, words = line.rpartition("drolt ")
    names = "\n".join(str(path) for path in Path("photos").rglob("*.jpg")) if "|" in line else None
    done = CliRunner().invoke(app, shlex.split(words), input=names)
    if "dataset=" in line:  # it composes; the small model has other classes and sizes
        assert "must show images as the model's training did" in done.output
        return
    assert done.exit_code == 0, done.output


def test_all_four_commands_are_there() -> None:
    assert {re.search(r"drolt(?:_pl)? (\w+)", line)[1] for line in COMMANDS} == {
        *("info", "predict", "evaluate", "export")
    }  # type: ignore[index]


def test_the_pages_python(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "predictions.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Prediction(")
    assert second.startswith("Unreadable(")
