"""The tree is the one that docs/architecture.md draws: its rooms, what each may import, and how large a file may be."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers.running import HOME

PACKAGE = HOME / "drolt_pl"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
SOURCES = {name: path.read_text() for name, path in FILES.items()} | {"train.py": (HOME / "train.py").read_text()}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
PAGE = (HOME / "docs" / "architecture.md").read_text()

# What each room may import of the package beside itself, and beside those that are open to all of them.
FILES_OF_RUNS = {"records", "folders", "results", "comparison", "kept", "groups", "regular"}
NETWORKS = {"losses", "backbones", "classifiers", "centroids"}
TRAINING = {"learning", "objectives", "metrics", "groups", *NETWORKS}
ALLOWED: dict[str, set[str]] = {
    "errors": {"escape"},
    "escape": set(),
    "ranges": set(),
    "checked": set(),
    "classes": set(),
    "regular": set(),
    "disk": set(),
    "checkpoint_file": {"disk"},
    "lightning_internals": set(),
    "centroids": set(),
    "losses": set(),
    "backbones": set(),
    "classifiers": {"checkpoint_file"},
    "groups": set(),
    "rows": set(),
    "prior": set(),
    "records": {"disk", "regular"},
    "metrics": {"groups"},
    "folders": {"records", "regular"},
    "results": {"records", "groups"},
    "comparison": {"records", "results"},
    "kept": {"comparison", "folders", "records", "results"},
    "objectives": {"metrics", "groups"} | NETWORKS,
    "data": {"groups", "lightning_internals", "regular", "disk"},
    "model": {"data", "groups", "backbones", "classifiers", "checkpoint_file", "disk"},
    "learning": TRAINING - {"learning"} | {"checkpoint_file", "lightning_internals"},
    "tracking": FILES_OF_RUNS,
    "report": FILES_OF_RUNS | {"disk", "rows"},
    "analysis": {"data", "model", "rows"} | TRAINING | FILES_OF_RUNS,
    "run": {"analysis", "report", "tracking", "rows", "data", "model", "lightning_internals", "checkpoint_file", "disk"}
    | TRAINING
    | FILES_OF_RUNS,
    "sweeps": {"run", "report", "disk"} | FILES_OF_RUNS,
    "predict": {"model", "data", "metrics", "prior", "results", "records", "groups", "disk"},
    "cli": {"run", "sweeps", "analysis", "report", "tracking", "predict", "data", "model"} | FILES_OF_RUNS,
    "__main__": {"cli"},
}
OPEN_TO_ALL = {"errors", "escape", "ranges", "checked", "classes"}
PUBLIC_ALL_THE_SAME = {"_asdict", "_replace", "_fields", "_abc_impl"}  # of named tuples and of ABC
# Private names of other libraries, each with no public way to the same.
NOT_PUBLIC_ELSEWHERE = {
    "learning/stages.py": {"_BatchNorm"},  # torch's common base of its BatchNorm layers
    "run/signals.py": {"_exit"},  # Python's os._exit
    "run/warm_server.py": {"_exit", "_run_exitfuncs"},  # Python's, and how multiprocessing ends a fork
}


def imports(name: str) -> set[str]:
    """Modules that a file imports, dotted; those inside `if TYPE_CHECKING` too."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module in ("drolt_pl", "drolt_pl.data")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if inside else {node.module}
    return found


def room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def reached(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """All rooms below each room; a room below itself is a cycle."""
    found = {name: set(targets) for name, targets in arrows.items()}
    while True:
        wider = {name: below.union(*(found.get(room, set()) for room in below)) for name, below in found.items()}
        if wider == found:
            return found
        found = wider


def drawn_arrows() -> dict[str, set[str]]:
    """The arrows of the page's picture, `a & b --> c & d`."""
    picture = re.findall(r"```mermaid\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    arrows: dict[str, set[str]] = {}
    for sources, targets in re.findall(r"^ *([\w &]+?) --> ([\w &]+)$", picture, flags=re.MULTILINE):
        for source in sources.split(" & "):
            arrows.setdefault(source, set()).update(targets.split(" & "))
    return arrows


# ---- rooms ----


def test_imports_go_one_way() -> None:
    wrong = {
        f"{name} imports {other}"
        for name in FILES
        if room(name) != "__init__"
        for other in {module.split(".")[1] for module in imports(name) if module.startswith("drolt_pl.")}
        if other not in ALLOWED[room(name)] | {room(name)} | OPEN_TO_ALL
    }
    assert not wrong


def test_no_room_is_below_itself() -> None:
    assert [name for name, below in reached(ALLOWED).items() if name in below] == []
    assert not any(ALLOWED[name] - OPEN_TO_ALL for name in OPEN_TO_ALL)


def test_the_picture_has_the_rooms_of_the_tree_and_their_arrows() -> None:
    """The picture leaves out arrows that others imply; what is reached from each room is the same."""
    rooms = {room(name) for name in FILES} - {"__init__"}
    assert rooms == ALLOWED.keys()
    arrows = drawn_arrows()
    drawn = {*arrows, *(target for targets in arrows.values() for target in targets)}
    assert drawn == rooms - OPEN_TO_ALL - {"__main__"}
    below = reached({name: arrows.get(name, set()) for name in drawn})
    assert below == {name: targets for name, targets in reached(ALLOWED).items() if name in drawn}


def test_the_page_has_a_line_for_every_room_and_every_room_inside_data() -> None:
    """So every file belongs to a room that the page names."""
    named = set(re.findall(r"^\| `([\w/.]+)`", PAGE, flags=re.MULTILINE))
    folders = {f"{folder.relative_to(PACKAGE).as_posix()}/" for folder in PACKAGE.rglob("*") if folder.is_dir()}
    folders = {folder for folder in folders if any(name.startswith(folder) for name in FILES)}
    assert named == folders | {name for name in FILES if "/" not in name}


def test_what_the_page_names_exists() -> None:
    """Each `drolt_pl/...py` of the page is a file, and what stands behind it, `file.py: a, b`, is defined there."""
    named = re.findall(r"`((?:drolt_pl|conf|tests|examples)/[\w/.]+\.(?:py|yaml))(?:: ([\w., ]+))?`", PAGE)
    for path, names in [found for found in named if "NAME" not in found[0]]:
        assert (HOME / path).is_file(), path
        defined = {
            node.name
            for node in ast.walk(ast.parse((HOME / path).read_text()) if path.endswith(".py") else ast.Module([], []))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert {part for name in names.split(", ") if name for part in name.split(".")} <= defined, path


def test_the_changelogs_new_names_of_modules_exist_and_its_old_ones_do_not() -> None:
    rows = (HOME / "CHANGELOG.md").read_text().split("Modules of `drolt_pl`:")[1].split("\n\n")[1].splitlines()[2:]
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in FILES}
    for row in rows:
        before, now = (set(re.findall(r"`([\w.]+)`", cell)) for cell in row.strip("| ").split(" | "))
        assert now <= modules, row
        assert not (before - now - {"data.prepare", "tracking"}) & modules, row  # these two are folders now


def test_only_run_sweeps_and_cli_know_hydra() -> None:
    knowing = {name for name in FILES if {module.split(".")[0] for module in imports(name)} & {"hydra", "omegaconf"}}
    assert {room(name) for name in knowing} <= {"run", "sweeps", "cli"}


def test_longtail_is_a_leaf() -> None:
    ours = {module for module in imports("data/longtail.py") if module.startswith("drolt_pl")}
    assert ours == {"drolt_pl.errors", "drolt_pl.ranges", "drolt_pl.checked"}


# ---- sizes and words ----


def test_files_and_functions_are_short() -> None:
    assert {name: lines for name, text in SOURCES.items() if (lines := text.count("\n")) > 250} == {}
    functions = {
        f"{name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > 60} == {}


@pytest.mark.parametrize(("pattern", "most"), [(r": Any\b", 25), (r"\bhasattr\b|\bgetattr\(", 10)])
def test_what_types_cannot_hold_is_rare(pattern: str, most: int) -> None:
    assert sum(len(re.findall(pattern, text)) for text in SOURCES.values()) <= most


def test_nobody_asks_which_loss_or_objective_it_is() -> None:
    asked = {name for name, text in SOURCES.items() if re.search(r"(?i)isinstance\([^)]*(loss|objective)", text)}
    assert not asked


# ---- private names ----


def test_private_names_stay_where_they_are_defined() -> None:
    """Lightning's are touched in lightning_internals.py alone; no room reads a private name of another."""
    for name, tree in TREES.items():
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _of_self(node)}
        read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_private(node.attr)}
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        foreign = (read | {alias for alias in imported if _is_private(alias)}) - own
        if name != "lightning_internals.py":
            assert foreign == NOT_PUBLIC_ELSEWHERE.get(name, set()), name


def test_subclasses_of_lightning_use_none_of_its_private_names() -> None:
    found: dict[str, set[str]] = {}
    for name, kind in _classes():
        bases = [base for base in kind.__mro__ if base.__module__.split(".")[0] in ("pytorch_lightning", "lightning")]
        if bases and name != "lightning_internals.py":
            theirs = set().union(*(re.findall(r"\bself\.(_[a-z]\w*)", inspect.getsource(base)) for base in bases))
            theirs |= {attribute for base in bases for attribute in vars(base) if _is_private(attribute)}
            ours = set(re.findall(r"\bself\.(_[a-z]\w*)", inspect.getsource(kind)))
            ours |= {attribute for attribute in vars(kind) if _is_private(attribute)}
            if theirs & ours:
                found[f"{name}: {kind.__name__}"] = theirs & ours
    assert found == {}


def _is_private(name: str) -> bool:
    return bool(re.fullmatch(r"_[A-Za-z]\w*", name)) and name not in PUBLIC_ALL_THE_SAME


def _of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _classes() -> Iterator[tuple[str, type]]:
    """The classes of the files that import Lightning."""
    for name in FILES:
        if any(module.startswith(("pytorch_lightning", "lightning_fabric")) for module in imports(name)):
            module = importlib.import_module(f"drolt_pl.{name.removesuffix('.py').replace('/', '.')}")
            yield from ((name, kind) for kind in vars(module).values() if _is_defined_in(kind, module.__name__))


def _is_defined_in(kind: object, module: str) -> bool:
    return inspect.isclass(kind) and kind.__module__ == module


# ---- public names ----


@pytest.mark.parametrize("package", ["drolt_pl", "drolt_pl.data"])
def test_public_names_have_the_homes_that_type_checkers_see(package: str) -> None:
    """The block under TYPE_CHECKING repeats _HOMES, since no type checker follows __getattr__."""
    name = "/".join([*package.split(".")[1:], "__init__.py"])
    block = next(node for node in TREES[name].body if isinstance(node, ast.If))
    seen = {
        alias.asname: (node.module or "").removeprefix(f"{package}.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    module = importlib.import_module(package)
    assert seen == vars(module)["_HOMES"]
    assert all(vars(importlib.import_module(f"{package}.{home}"))[public] for public, home in seen.items())


def test_the_entry_point_starts_without_torch() -> None:
    code = "import sys, train; print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_page_is_where_the_readme_says() -> None:
    assert "(docs/architecture.md)" in (HOME / "README.md").read_text()
