"""The examples run as they stand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.running import HOME
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from drolt_pl.run.train import train

README = (HOME / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example(path: object) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"nearest centroid (0\.\d+)", done.stdout)[0])
    assert accuracy > 0.6  # 3 to 100 images a class; chance is 0.1


def test_the_readmes_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    alone = [block for block in blocks if not block.startswith("# ")]
    assert alone
    for block in alone:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readmes_new_method_is_three_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are put where they say, and the method trains."""
    files = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, flags=re.DOTALL))
    code, config, test = files
    assert [Path(name).parts[0] for name in files] == ["drolt_pl", "conf", "tests"]
    shutil.copytree(HOME / "conf", tmp_path / "conf")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    module = ModuleType(code.removesuffix(".py").replace("/", "."))
    exec(compile(files[code], code, "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    GlobalHydra.instance().clear()
    tests: dict[str, object] = {}
    exec(compile(files[test], test, "exec"), tests)
    for name, function in tests.items():
        if name.startswith("test_") and callable(function):
            function()
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        settings = compose("config", ["trainer=cpu", f"method={Path(config).stem}", "schedule.budget.alone=1"])
    train(settings, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["method"] == Path(config).stem
    assert results["test"]["acc"] > 0
