"""Predictions of many files: order, unreadable files, processes, and a file that appears whole or not at all."""

import csv
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.models import CLASSES, write_model
from helpers.photos import write_photos

from drolt_pl import Model
from drolt_pl.errors import SettingError
from drolt_pl.model import Prediction, Unreadable
from drolt_pl.predict.files import Pace, predict_files
from drolt_pl.predict.names import Names
from drolt_pl.predict.priors import named_prior, read_prior
from drolt_pl.predict.ranks import Ranks, shared_output
from drolt_pl.predict.shift import shift_for
from drolt_pl.predict.table import encoded, safe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "model.ckpt"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_file_in_order(model: Model, photos: Path, tmp_path: Path) -> None:
    names = [str(path) for path in sorted(photos.rglob("*.jpg"), reverse=True)]
    found = predict_files(model, names, tmp_path / "out.csv", pace=Pace(batch_size=5))
    rows = table(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == names
    assert (found.files, found.unreadable, len(found.examples)) == (13, 1, 1)
    assert "broken.jpg' is not (it is no image of the kinds JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM)" in found.examples[0]
    for row in rows:
        if "broken" in row["file"]:
            assert row["error"] == found.examples[0]
            assert not any(value for key, value in row.items() if key not in ("file", "error"))
            continue
        one = model.predict([row["file"]])[0]
        assert (row["label"], row["nearest"], row["error"]) == (one.name, one.nearest, "")
        for place, (name, probability) in enumerate(one.top, start=1):
            suffix = "" if place == 1 else f"_{place}"
            assert row[f"label{suffix}"] == name
            assert float(row[f"probability{suffix}"]) == pytest.approx(probability, abs=1e-5)
        assert float(row["distance_over_radius"]) == pytest.approx(one.distance_over_radius, rel=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_worker_processes_change_nothing(model: Model, photos: Path, tmp_path: Path) -> None:
    names = Names([str(photos)])
    for workers in (0, 2):
        predict_files(model, names, tmp_path / f"{workers}.csv", top=1, pace=Pace(batch_size=3, workers=workers))
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert list(table(tmp_path / "0.csv")[0]) == ["file", "label", "probability", "nearest", "distance_over_radius",
                                                  "error"]  # fmt: skip


def test_parts_of_ranks_join_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stand for the processes."""
    barrier = threading.Barrier(3)
    monkeypatch.setattr(Ranks, "gathered", lambda self, value: [barrier.wait(timeout=20), value])
    batches = [b"1\n2\n", b'"3\n",x\n', b"4\n", b"", b"5\n6\n"]

    def process(rank: Ranks) -> None:
        with shared_output(tmp_path / "out.csv", rank, b"head\n") as write:
            for batch in rank.share(batches):
                write(batch)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(process, [Ranks(rank, 3) for rank in range(3)]))
    assert (tmp_path / "out.csv").read_bytes() == b"head\n" + b"".join(batches)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_two_ranks_write_what_one_does(photos: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.ckpt")
    command = [sys.executable, "-m"]
    for start, name in (([], "one"), (["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"], "two")):
        arguments = ["predict", tmp_path / "model.ckpt", photos, "-o", tmp_path / name, "--batch-size", "3"]
        done = subprocess.run(
            [*command, *start, "drolt_pl", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"wrote {tmp_path / name}: 13 files"
        assert "1 of 13 files cannot be read" in done.stderr
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_appears_whole_or_not_at_all(model: Model, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")

    def names() -> object:
        yield str(photos / "cat" / "0.jpg")
        assert out.read_text() == "before"
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        predict_files(model, names(), out, pace=Pace(batch_size=1))  # type: ignore[arg-type]
    assert out.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(SettingError, match="must name at least one file"):
        predict_files(model, [], out)
    with pytest.raises(SettingError, match="not a folder"):
        predict_files(model, ["a.jpg"], tmp_path)


def test_cells_are_no_formulas() -> None:
    for text in ("=1+1", "+1", "-1", "@a", "\tx", "\r=1"):
        assert safe(text) == f"'{text}"
    assert safe("a=1") == "a=1"
    assert encoded([["a,b", 'say "x"', "\udcff"]]) == b'"a,b","say ""x""",\xff\n'


def test_from_python(model: Model, photos: Path) -> None:
    names = [str(path) for path in sorted((photos / "dog").iterdir())]
    for workers in (0, 1):
        found = list(model.predict_iter(iter(names), batch_size=2, workers=workers, top=2))
        kinds = [type(entry) for entry in found]
        assert kinds == [Prediction] * 4 + [Unreadable]
        assert isinstance(found[0], Prediction)
        assert len(found[0].top) == 2
        assert found[:4] == list(model.predict(names[:4], batch_size=2, workers=workers, top=2))
        with pytest.raises(SettingError, match=r"broken\.jpg' is not"):
            model.predict(names, workers=workers)
        with pytest.raises(SettingError, match="must be uint8"):
            list(model.predict_iter([torch.zeros(3, 9, 9)], workers=workers))
    assert all(isinstance(entry, Unreadable) for entry in model.predict_iter(["nowhere.jpg"]))


def test_names_are_read_only_as_needed(model: Model, photos: Path) -> None:
    taken = 0

    def names() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield str(photos / "cat" / "0.jpg")

    stream = model.predict_iter(names(), batch_size=2)  # type: ignore[arg-type]
    next(stream)
    assert taken <= 8
    stream.close()  # type: ignore[attr-defined]


def test_priors_re_weight_predictions(model: Model, photos: Path, tmp_path: Path) -> None:
    names, pace = Names([str(photos)]), Pace()
    assert shift_for(model, names, pace, test=None, assumed=None) is None
    uniform = shift_for(model, names, pace, test="uniform", assumed=None)
    assert uniform is not None
    image = next(iter(names))
    before = dict(model.predict([image])[0].top)
    after = model.judge(model.preprocessing.pixels(image)[None], prior_shift=uniform.values)[0]
    expected = {name: before[name] / count for name, count in zip(CLASSES, (30, 5, 2), strict=True)}
    total = sum(expected.values())
    assert dict(after.top) == pytest.approx({name: value / total for name, value in expected.items()}, abs=1e-5)
    same = shift_for(model, names, pace, test="uniform", assumed="uniform")
    assert same is not None
    assert same.values.abs().max() < 1e-6
    estimated = shift_for(model, names, pace, test="estimate", assumed=None)
    assert estimated is not None
    assert estimated.source in ("uniform", "train", "estimate")
    assert estimated.values.shape == (3,)
    with pytest.raises(SettingError, match="standard input"):
        shift_for(model, Names(["-"]), pace, test="estimate", assumed=None)


def test_priors_of_files(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"cat": 1, "owl": 3}')
    (tmp_path / "b.json").write_text('{"test_prior": {"cat": 0.25, "owl": 0.75}, "images": 4}')
    (tmp_path / "c.csv").write_text("class,share\ncat,1\nowl,3\n")
    (tmp_path / "d.csv").write_text("cat,1\nowl,3\n")
    for path in tmp_path.iterdir():
        assert read_prior(path, CLASSES).tolist() == [0.25, 0, 0.75]
    assert named_prior(model, "train").tolist() == pytest.approx([30 / 37, 5 / 37, 2 / 37])
    for text, said in {
        "cow,1": "no class 'cow'",
        "cat,1,2": "two columns",
        "cat,-1": "must be a finite number",
        "": "one of them > 0",
        "cat,1\ndog,many": "could not convert",
    }.items():
        (tmp_path / "wrong.csv").write_text(text)
        with pytest.raises(SettingError, match=said) as refused:
            read_prior(tmp_path / "wrong.csv", CLASSES)
        assert "\n" not in str(refused.value)
    (tmp_path / "wrong.json").write_text("[1]")
    with pytest.raises(SettingError, match="no mapping"):
        read_prior(tmp_path / "wrong.json", CLASSES)
    with pytest.raises(SettingError, match="uniform, train, estimate or a file"):
        read_prior(tmp_path / "nowhere.csv", CLASSES)


@pytest.mark.parametrize("rank", ["x", "0"])
def test_ranks_that_nobody_started_are_not_waited_for(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert Ranks.of_environment() == Ranks()


WRONG = {"a.csv": "cat,1\ncat,9\n", "b.csv": f"cat,{'1' * 200_000}", "a.json": '{"cat": 1, "cat": 9}',
         "b.json": "[" * 100_000, "c.json": '{"cat": [1]}'}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_prior_that_loses_nothing_without_a_word(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(WRONG[name])
    with pytest.raises(SettingError, match="must hold a number >= 0 for the name of each class"):
        read_prior(tmp_path / name, CLASSES)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", ""), ("WORLD_SIZE", "½"), ("LOCAL_RANK", "-1"), ("MASTER_ADDR", ""), ("MASTER_PORT", "x")],
)
def test_what_torchrun_left_in_part_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "29400"}
    for key, text in {"TORCHELASTIC_RUN_ID": "old", **whole}.items():
        monkeypatch.setenv(key, text)
    assert Ranks.of_environment() == Ranks(1, 2, 1)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=f"^{name} must be .*in the environment.* unset TORCHELASTIC_RUN_ID$"):
        Ranks.of_environment()
