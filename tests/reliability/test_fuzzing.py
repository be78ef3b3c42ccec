"""Whatever a file holds, reading it gives a value or one sentence: never another exception."""

import gzip
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drolt_pl import folders
from drolt_pl.comparison import Comparison
from drolt_pl.data.prepare.index import load_index
from drolt_pl.data.prepare.lists import read_annotations, read_lists
from drolt_pl.data.sets.manifest import ManifestLT
from drolt_pl.errors import SettingError
from drolt_pl.kept import Kept
from drolt_pl.records import read_record
from drolt_pl.report.page import render_results
from drolt_pl.report.sweep_jobs import Failure, read_jobs
from drolt_pl.results import Results
from drolt_pl.run.checkpoints import saved_split

BOM = b"\xef\xbb\xbf"
# Numbers, lengths and characters that parsers trip over.
ODD = st.sampled_from(
    [
        "",
        "\0",
        "\ufeff",
        "nan",
        "-0",
        "1e999",
        "9" * 30,
        "9" * 5000,
        "²",
        "٣",
        "\ud800",
        "\x1b[31m",
        "\r",
        "\u2028",
        "../x",
    ]
)
TEXT = st.one_of(st.text(max_size=20), ODD)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp037"])


@st.composite
def encoded(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    """Text as bytes: in some encoding, cut, with bytes changed, or whole."""
    encoding = draw(ENCODINGS)
    keeps = encoding.startswith("utf") and draw(st.booleans())  # other encodings know no surrogates
    data = draw(texts).encode(encoding, "surrogatepass" if keeps else "replace")
    if data and draw(st.booleans()):
        place = draw(st.integers(0, len(data) - 1))
        data = draw(st.sampled_from([data[:place], data[:place] + b"\0" + data[place:], data * 2]))
    return data


def changed(sound: dict[str, Any]) -> st.SearchStrategy[str]:
    """JSON of a sound record with fields exchanged, left out or added, or of anything."""

    def text(parts: tuple[dict[str, Any], list[str]]) -> str:
        more, left_out = parts
        return json.dumps({key: value for key, value in {**sound, **more}.items() if key not in left_out})

    keys = st.sampled_from(sorted(sound)) | TEXT
    near = st.tuples(st.dictionaries(keys, VALUES, max_size=3), st.lists(keys, max_size=2)).map(text)
    return near | VALUES.map(json.dumps)


def table(columns: tuple[str, ...], cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """CSV whose first line mostly names the columns."""
    heads = st.just(",".join(columns)) | TEXT
    lines = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=6)
    return st.tuples(heads, lines).map(lambda parts: "\n".join([parts[0], *parts[1]]))


CELL = TEXT | st.sampled_from(
    ["a.png", "b.png", "./a.png", "/etc/x", '"', '"a,b"', "train", "val", "test", "0", "1", "x"]
)
RESULTS = {
    "schema": 1,
    "dataset": "d",
    "method": "m",
    "protocol": "holdout",
    "seed": 0,
    "test": {"acc": 0.5, "per_class": [0.1, None]},
    "class_counts": [5, 3],
    "stages": {"train": {"test": {"acc": 0.1}}},
    "overrides": ["a=1"],
    "versions": {"torch": "2"},
    "setting": {"profile": "exp", "imbalance_ratio": 10},
}
COMPARISON = {"stage": "s", "views": 1, "epochs": 1, "lr": 0.1, "classifiers": {"a": {"test": {"acc": 0.1}}}}


def results(path: Path) -> None:
    Results.load(path)


def kept(path: Path) -> None:
    render_results(path.parent)
    Kept.load(path).metric_rows()


def manifest(path: Path) -> None:
    ManifestLT(manifest=path, image_size=1).catalogue()


def lists(path: Path) -> None:
    read_lists({"train": path, "test": path})


def annotations(path: Path) -> None:
    read_annotations({"train": path, "test": path})


def configuration(path: Path) -> None:
    run_dir = path.parents[1]
    folders.overrides(run_dir), folders.choices(run_dir), folders.dataset(run_dir)


def sweep(path: Path) -> None:
    read_jobs(path.parent)


def comparison(path: Path) -> None:
    Comparison.load(path)


def failure(path: Path) -> None:
    read_record(path, Failure.model_validate_json)


READERS: dict[str, tuple[str, Callable[[Path], object], st.SearchStrategy[str]]] = {
    "results.json": ("results.json", results, changed(RESULTS)),
    "a kept run": ("kept/run.json", kept, changed({"kept": 1, "results": RESULTS, "metrics": ["epoch", "0"]})),
    "split.json": ("split.json", lambda path: saved_split(path.parent), changed({"sha256": "0" * 64, "indices": {}})),
    "metrics.csv": ("metrics.csv", folders.metric_rows, table(("epoch", "stage_name", "val/acc"), CELL)),
    "a manifest": ("labels.csv", manifest, table(("path", "label", "split"), CELL)),
    "a list": ("list.txt", lists, st.lists(st.tuples(CELL, CELL).map(" ".join), max_size=6).map("\n".join)),
    "annotations": (
        "train2018.json",
        annotations,
        changed(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 0}],
                "categories": [{"id": 0, "name": "x"}],
            }
        ),
    ),
    "a comparison": ("classifiers_train.json", comparison, changed(COMPARISON)),
    "failure.json": ("failure.json", failure, changed({"overrides": [], "exit_code": 1, "last_lines": []})),
    "jobs.json": ("jobs.json", sweep, changed({"0": ["a=1"], "1": ["a=2"]})),
    "config.yaml": (".hydra/config.yaml", configuration, VALUES.map(json.dumps) | TEXT),
    "overrides.yaml": (".hydra/overrides.yaml", configuration, VALUES.map(json.dumps) | TEXT),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder in memory where there is one: ten thousand files are written there one after the other."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    (made / ".hydra").mkdir()
    (made / "kept").mkdir()
    yield made
    shutil.rmtree(made)


def reads(name: str, content: bytes, place: Path) -> None:
    """A value, or one sentence."""
    path = place / READERS[name][0]
    path.write_bytes(content)
    try:
        said = refusal(name, path)
    finally:
        path.unlink()
    assert said is None or not set("\n\r\x1b\0") & set(said)
    (said or "").encode()


def refusal(name: str, path: Path) -> str | None:
    try:
        READERS[name][1](path)
    except SettingError as error:
        return str(error)
    return None


def fuzz(name: str, place: Path, number: int) -> None:
    @settings(max_examples=number, database=None, suppress_health_check=list(HealthCheck))
    @given(encoded(READERS[name][2]) | st.binary(max_size=100))
    def search(content: bytes) -> None:
        reads(name, content, place)

    search()


@pytest.mark.parametrize("name", READERS)
def test_any_content_is_a_value_or_a_sentence(name: str, place: Path) -> None:
    fuzz(name, place, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_contents(name: str, place: Path, record_property: Callable[[str, int], None]) -> None:
    fuzz(name, place, 10_000)
    record_property("contents", 10_000)


LARGE = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": b'{"schema": ' + b"9" * 100_000 + b"}",
    "a long line": b"x" * 3_000_000,
    "many empty lines": b"\n" * 100_000,
    "zeros": bytes(1_000_000),
    "a byte order mark alone": BOM,
    "another encoding": "path,label\nä.png,ö\n".encode("utf-16"),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("name", READERS)
def test_large_and_deep_contents(name: str, kind: str, place: Path) -> None:
    reads(name, LARGE[kind], place)


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / READERS[name][0]
    path.parent.mkdir(exist_ok=True)
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name)):
        make(path)
        assert "\n" not in (refusal(name, path) or "")
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@settings(max_examples=200)
@given(st.data())
def test_any_archive_is_an_index_or_a_sentence(data: st.DataObject) -> None:
    sound = {
        "meta": np.array(json.dumps({"format": 1, "name": "x", "root": "/", "sources": {}, "sha256": ""})),
        "names": np.array([b"a", b"b"]),
        "targets": np.array([0, 1], np.int32),
        "official": np.zeros(2, np.uint8),
        "class_names": np.array(["a", "b"]),
    }
    odd = st.sampled_from(
        [
            np.array(1.5),
            np.zeros((2, 2)),
            np.array([]),
            np.array(["x"]),
            np.array([-1, 99]),
            np.array([b"../a", b"b"]),
            np.zeros(2, "V3"),
            np.array("{}"),
            np.array(json.dumps({"format": 1, "name": [], "root": 1, "sources": 2, "sha256": None})),
            np.array("[" * 50_000),
        ]
    )
    arrays = {**sound, **data.draw(st.dictionaries(st.sampled_from([*sound, "digests"]), odd, max_size=3))}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    content = file.getvalue()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content) - 1))
        content = content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.npz"
        path.write_bytes(content)
        with pytest.raises(SettingError, match=r"^index must [^\n]*$"):
            load_index(path)


def test_archives_that_unpack_to_far_more_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("names.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(2_100):
            member.write(bytes(1024**2))
    with pytest.raises(SettingError, match="it unpacks to more than"):
        load_index(path)
    with gzip.open(tmp_path / "labels.csv.gz", "wb", compresslevel=1) as packed:
        packed.write(b"path,label\n")
        for _ in range(50):
            packed.write(b"x" * 1024**2)
    with pytest.raises(SettingError, match="one of its lines than"):
        manifest(tmp_path / "labels.csv.gz")
