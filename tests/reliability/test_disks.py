"""Full disks, data that vanishes, dead workers, odd paths and surroundings end in one sentence; nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.faults import full_disk, require_same
from helpers.images import write_image_tree
from helpers.jobs import begun, ended, trains, warmed
from helpers.running import HOME, SHORT, train_here

from drolt_pl import load_model
from drolt_pl.run import warm
from drolt_pl.run.mishaps import mishap

Record = Callable[[str, int], None]
PLACES = ["with space", "it's", 'a "quote"', "a=b", "a,b", "$HOME", "ünï😀", "[1]", "{a}", "-m", "~x", "%d", "#", "a;b"]


@pytest.fixture(scope="module")
def server() -> Iterator[warm.Server]:
    with warmed() as server:
        yield server


def images(folder: Path, *, train: int) -> list[str]:
    """The overrides of a run on a small folder of images, which is written."""
    root = write_image_tree(folder / "images", classes=3, train=train, test=3, size=8)
    quoted = str(root).replace("\\", "\\\\").replace("'", "\\'")
    data = ["dataset=image_folder", f"dataset.root='{quoted}'", "dataset.image_size=8", "dataset.val_per_class=2"]
    return [*data, "dataset.batch_size=8", "dataset.imbalance_ratio=null", "backbone=convnet_small"]


def with_workers(server: warm.Server, folder: Path) -> warm.Job:
    """A long run whose workers read images most of the time, once it has saved an epoch."""
    words = [*images(folder, train=400), "dataset.loader=workers", "dataset.num_workers=2"]
    words += ["schedule.stages.ce_warmup.epochs=500", f"hydra.run.dir={folder / 'run'}"]
    job = begun(server, *SHORT, *words, cwd=folder)
    while not (folder / "run" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    return job


def kill_children(parent: int, ended: threading.Event) -> None:
    """Kills each child of a process until that ends: between epochs it has none, and who has read all is not missed."""
    while not ended.wait(0.1):
        for child in subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)


def is_one_sentence(said: str) -> bool:
    last = [line for line in said.splitlines() if "error" in line.lower() or "stopped" in line]
    return "Traceback" not in said and len(last) == 1


@pytest.mark.slow
def test_a_disk_that_is_full_at_every_write(tmp_path: Path, record_property: Record) -> None:
    whole = tmp_path / "whole"
    train_here(whole)
    for at in range(1, 1000):
        run_dir = tmp_path / str(at)
        with full_disk(at) as asked:
            try:
                train_here(run_dir)
            except OSError as error:
                found = mishap(error)
                assert found is not None
                assert "\n" not in found.sentence
                assert "No space left on device" in found.sentence
        if asked[0] < at:
            break  # it had all the space that it needed
        train_here(run_dir, f"resume={run_dir}")
        require_same(run_dir, whole)
        shutil.rmtree(run_dir)
    assert asked[0] > 20
    record_property("writes", at - 1)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_run_in_a_folder_of_any_name(place: str, server: warm.Server, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir()
    code, said = trains(server, *images(folder, train=12), cwd=folder)
    assert code == 0, said
    (results,) = folder.rglob("results.json")
    assert len(list(folder.rglob("last.ckpt"))) == 1
    names = sorted(path.name for path in (folder / "images" / "train").iterdir())
    assert load_model(results.parent).class_names == tuple(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "surroundings",
    [{"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}, {"TERM": "dumb"}, {"COLUMNS": "20"}, {"HOME": "/nonexistent"}],
    ids=lambda surroundings: next(iter(surroundings)),
)
def test_surroundings(surroundings: dict[str, str], tmp_path: Path) -> None:
    words = [sys.executable, str(HOME / "train.py"), *SHORT, f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, **surroundings}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert "Traceback" not in done.stderr.decode(errors="replace")


@pytest.mark.slow
def test_a_reader_that_goes_away_early(tmp_path: Path) -> None:
    for words in ("--help", "--cfg job"):
        command = f"{sys.executable} {HOME / 'train.py'} {words} | head -1"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr == ""


@pytest.mark.slow
def test_a_data_folder_that_vanishes(server: warm.Server, tmp_path: Path) -> None:
    job = with_workers(server, tmp_path)
    root = (tmp_path / "images").rename(tmp_path / "elsewhere")
    code, said = ended(job)
    assert code == 1, said
    assert is_one_sentence(said), said
    assert root.exists()
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_size > 1000


@pytest.mark.slow
def test_a_worker_that_is_killed(server: warm.Server, tmp_path: Path) -> None:
    job = with_workers(server, tmp_path)
    over = threading.Event()
    killing = threading.Thread(target=kill_children, args=(job.pid, over))
    killing.start()
    code, said = ended(job)
    over.set()
    killing.join()
    assert code == 1, said
    assert is_one_sentence(said), said
    assert "a worker that reads images ended" in said


@pytest.mark.slow
def test_a_folder_that_is_read_only(server: warm.Server, tmp_path: Path) -> None:
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    script = "tests/helpers/powerless_train.py"  # root may write everywhere
    code, said = ended(begun(server, *SHORT, f"hydra.run.dir={folder / 'run'}", script=script, cwd=tmp_path))
    assert code == 1, said
    assert is_one_sentence(said), said
    assert "Permission denied" in said
    assert list(folder.iterdir()) == []


def contents(run_dir: Path) -> dict[Path, bytes]:
    """Of every file of a run, but of the lock, which says who holds it."""
    files = (path for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_run_folder_that_becomes_read_only(server: warm.Server, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    code, said = trains(server, f"hydra.run.dir={run_dir}")
    assert code == 0, said
    (run_dir / "results.json").unlink()
    before = contents(run_dir)
    for folder in (run_dir, *(path for path in run_dir.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    script = "tests/helpers/powerless_train.py"
    code, said = ended(begun(server, f"resume={run_dir}", script=script, cwd=tmp_path))
    assert code == 1, said
    assert is_one_sentence(said), said
    assert contents(run_dir) == before


@pytest.mark.slow
def test_a_place_that_is_no_folder(server: warm.Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "run", Path("/proc/run"), Path("/sys/run")):
        code, said = trains(server, f"hydra.run.dir={place}")
        assert code == 1
        assert is_one_sentence(said), said
