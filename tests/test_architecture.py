"""Imports go one way, and only the entry points know Hydra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import HOME

PACKAGE = HOME / "drolt_pl"
FILES = sorted(PACKAGE.rglob("*.py"))
# What each part may import from the package, by its second name; a leaf may import nothing.
FILES_OF_RUNS = {"escape", "regular", "records", "folders", "results", "comparison", "groups", "errors"}
ALLOWED: dict[str, set[str]] = {
    "escape": set(),
    "regular": set(),
    "errors": {"escape"},
    "lightning_internals": set(),
    "centroids": set(),
    "groups": {"errors"},
    "metrics": {"errors", "groups"},
    "records": {"errors", "regular"},
    "folders": {"records", "errors"},
    "results": {"records", "groups", "escape"},
    "comparison": {"records", "results"},
    "losses": {"losses", "errors"},
    "backbones": {"backbones", "errors"},
    "classifiers": {"classifiers", "errors"},
    "objectives": {"objectives", "losses", "backbones", "classifiers", "centroids", "errors"},
    "data": {"data", "escape", "regular", "errors", "groups", "lightning_internals"},
    "model": {"model", "data", "backbones", "classifiers", "errors", "groups"},
    "learning": {"learning", "objectives", "losses", "backbones", "classifiers", "centroids", "metrics"}
    | {"errors", "groups", "lightning_internals"},
    "tracking": {"tracking", *FILES_OF_RUNS},
    "report": {"report", *FILES_OF_RUNS},
    "analysis": {"analysis", "learning", "data", "losses", "backbones", "classifiers", "centroids", "metrics"}
    | FILES_OF_RUNS,
    "run": {"run", "escape", "analysis", "report", "tracking", "learning", "data", "model", "objectives", "losses", "backbones"}
    | {"classifiers", "centroids", "lightning_internals"}
    | FILES_OF_RUNS,
    "sweeps": {"sweeps", "run", "report", *FILES_OF_RUNS},
    "cli": {"cli", "escape", "run", "sweeps", "report", "tracking", "data", *FILES_OF_RUNS},
    "__main__": {"cli"},
}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, dotted; those inside `if TYPE_CHECKING` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("drolt_pl.")}
    assert ours <= ALLOWED[part]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_hydra(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] not in ("run", "sweeps", "cli"):
        assert not {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}


def test_longtail_is_a_leaf() -> None:
    ours = {name for name in imports(PACKAGE / "data" / "longtail.py") if name.startswith("drolt_pl")}
    assert ours == {"drolt_pl.errors"}


def test_the_entry_point_starts_without_torch() -> None:
    code = "import sys, train; print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
