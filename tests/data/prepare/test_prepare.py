"""`drolt data prepare` on miniatures: an exact report and exit 1, or an index that a second call leaves alone."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from helpers.data_sets import TRAINING, annotations, write_jpeg, write_miniature
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.data.prepare.index import ImageIndex, load_index
from drolt_pl.data.prepare.published import RECIPES, facts_of, mismatches

SETS = ["imagenet_lt", "places_lt", "inaturalist2018"]
EVERY_SET = pytest.mark.parametrize("name", SETS)


def prepare(name: str, lists: Path, images: Path, *options: str) -> Result:
    paths = ["--lists", str(lists), "--images", str(images), "--out", str(lists.parent / "index.npz")]
    return CliRunner().invoke(app, ["data", "prepare", name, *paths, "--threads", "2", *options])


def first_training_paths(name: str, lists: Path, count: int) -> list[str]:
    if name == "inaturalist2018":
        return sorted(image["file_name"] for image in json.loads((lists / "train2018.json").read_text())["images"])[
            :count
        ]
    text = (lists / RECIPES[name].files["train"]).read_text()
    return [line.rsplit(" ", 1)[0] for line in text.splitlines()[:count]]


def repeat_entry(name: str, lists: Path, path: str) -> None:
    """A second entry of the path in the training list."""
    file = lists / RECIPES[name].files["train"]
    if name != "inaturalist2018":
        file.write_text(file.read_text() + f"{path} 0\n")
        return
    content = json.loads(file.read_text())
    content["images"].append({"id": 999, "file_name": path})
    content["annotations"].append({"id": 999, "image_id": 999, "category_id": 0})
    file.write_text(json.dumps(content))


@EVERY_SET
def test_a_clean_tree_is_indexed_and_a_second_call_does_nothing(name: str, tmp_path: Path) -> None:
    lists, images = write_miniature(name, tmp_path)
    done = prepare(name, lists, images, "--any-counts")
    assert done.exit_code == 0, done.output
    path = tmp_path / "index.npz"
    index = load_index(path)
    assert f"wrote {path}: classes 3, training images 15" in done.output
    assert f"SHA-256 {index.sha256}" in done.output
    assert np.bincount(index.targets[index.official == 0]).tolist() == list(TRAINING)
    assert (index.name, index.root) == (name, str(images))
    before = path.read_bytes(), path.stat().st_mtime_ns
    again = prepare(name, lists, images, "--any-counts")
    assert (again.exit_code, again.output) == (0, f"{path} is up to date: nothing to do\n")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert {file.name for file in tmp_path.iterdir()} == {"lists", "images", "index.npz"}


def test_an_older_index_is_replaced_and_no_other_file(tmp_path: Path) -> None:
    lists, images = write_miniature("places_lt", tmp_path)
    assert prepare("places_lt", lists, images, "--any-counts").exit_code == 0
    with (lists / "Places_LT_train.txt").open("a") as file:
        file.write("new.jpg 0\n")
    write_jpeg(images / "new.jpg", number=9)
    done = prepare("places_lt", lists, images, "--any-counts")
    assert f"wrote {tmp_path / 'index.npz'}" in done.output
    np.savez(tmp_path / "index.npz", features=np.zeros(3))
    before = (tmp_path / "index.npz").read_bytes()
    done = prepare("places_lt", lists, images, "--any-counts")
    assert done.exit_code == 1
    assert done.output.startswith("error: --out must not replace a file that another program or command has written")
    assert (tmp_path / "index.npz").read_bytes() == before


@EVERY_SET
def test_a_missing_a_truncated_and_a_repeated_image_are_reported_exactly(name: str, tmp_path: Path) -> None:
    lists, images = write_miniature(name, tmp_path)
    missing, truncated, repeated = first_training_paths(name, lists, 3)
    (images / missing).unlink()
    whole = (images / truncated).read_bytes()
    (images / truncated).write_bytes(whole[:-40])
    repeat_entry(name, lists, repeated)
    done = prepare(name, lists, images, "--any-counts")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "counts that differ from the published ones: 0",
        "missing files: 1",
        f"  {missing} (train)",
        "files that cannot be decoded: 1",
        done.stdout.splitlines()[4],
        "entries repeated in one list: 1",
        f"  {repeated} (train)",
        "images in more than one list: 0",
    ]
    assert done.stdout.splitlines()[4].startswith(f"  {truncated} (train): image file is truncated (")
    assert done.stderr.splitlines()[-1] == f"error: {name} has 3 defects, see above; nothing was written"
    assert {file.name for file in tmp_path.iterdir()} == {"lists", "images"}


def test_an_image_in_two_lists_and_an_empty_file_are_reported(tmp_path: Path) -> None:
    lists, images = write_miniature("imagenet_lt", tmp_path)
    shared, empty = first_training_paths("imagenet_lt", lists, 2)
    with (lists / "ImageNet_LT_test.txt").open("a") as file:
        file.write(f"{shared} 0\n")
    (images / empty).write_bytes(b"")
    done = prepare("imagenet_lt", lists, images, "--any-counts")
    assert f"  {empty} (train): empty file" in done.stdout.splitlines()
    assert f"  {shared} (train, test)" in done.stdout.splitlines()
    assert done.exit_code == 1


def test_other_counts_than_the_published_ones_are_defects(tmp_path: Path) -> None:
    done = prepare("imagenet_lt", *write_miniature("imagenet_lt", tmp_path / "a"))
    assert done.exit_code == 1
    assert "counts that differ from the published ones: 10" in done.stdout
    assert "  training images: 15 instead of 115,846" in done.stdout.splitlines()
    assert not (tmp_path / "a" / "index.npz").exists()
    # What nobody verified is only said.
    done = prepare("places_lt", *write_miniature("places_lt", tmp_path / "b"))
    assert done.exit_code == 0
    assert "warning: training images: 15 instead of 62,500" in done.stderr.splitlines()
    done = prepare("inaturalist2018", *write_miniature("inaturalist2018", tmp_path / "c"))
    assert done.exit_code == 1
    assert "counts that differ from the published ones: 3" in done.stdout
    assert "warning: medium-shot classes: 0 instead of 3,701" in done.stderr.splitlines()


def full_size(train: np.ndarray, val: int, test: np.ndarray | int, name: str) -> ImageIndex:
    counts = {"train": train, "val": np.full(len(train), val), "test": np.broadcast_to(test, len(train))}
    targets = np.concatenate([np.repeat(np.arange(len(train)), part) for part in counts.values()])
    official = np.repeat(np.arange(3, dtype=np.uint8), [part.sum() for part in counts.values()])
    return ImageIndex(
        names=np.zeros(len(targets), "S1"),
        targets=targets,
        official=official,
        class_names=np.arange(len(train)).astype(str),
        name=name,
        root="",
        sources={},
    )


def test_the_published_counts_of_imagenet_lt_and_inaturalist_agree_with_each_other() -> None:
    # 385 classes of more than 100, 479 of 20 to 100, 136 of fewer; 115,846 in all, 1,280 to 5.
    train = np.concatenate([[1280], np.full(384, 101), np.full(479, 50), np.full(135, 10), [5]])
    train[1:385] += (115_846 - train.sum()) // 384
    train[1] += 115_846 - train.sum()
    facts = facts_of(full_size(train, 20, 50, "imagenet_lt"))
    assert mismatches(facts, RECIPES["imagenet_lt"].certain) == []
    train[0] -= 1
    assert mismatches(facts_of(full_size(train, 20, 50, "imagenet_lt")), RECIPES["imagenet_lt"].certain) == [
        "training images: 115,845 instead of 115,846",
        "training images of the largest class: 1,279 instead of 1,280",
    ]
    train = np.concatenate([[1000], np.full(841, 150), np.full(3701, 50), np.full(3598, 10), [2]])
    train[1:842] += (437_513 - train.sum()) // 841
    train[1] += 437_513 - train.sum()
    facts = facts_of(full_size(train, 0, 3, "inaturalist2018"))
    recipe = RECIPES["inaturalist2018"]
    assert mismatches(facts, recipe.certain | recipe.reported) == []


def test_a_long_report_shows_the_first_twenty(tmp_path: Path) -> None:
    lists, images = write_miniature("imagenet_lt", tmp_path)
    for path in images.rglob("*.JPEG"):
        path.unlink()
    lines = prepare("imagenet_lt", lists, images, "--any-counts").stdout.splitlines()
    start = lines.index("missing files: 27")
    assert lines[start + 1] == "  train/n01440764/n01440764_0.JPEG (train)"
    assert lines[start + 21] == "  ... and 7 more"


def test_a_changed_list_or_a_damaged_index_is_prepared_again(tmp_path: Path) -> None:
    lists, images = write_miniature("places_lt", tmp_path)
    assert prepare("places_lt", lists, images).exit_code == 0
    path = tmp_path / "index.npz"
    first = path.read_bytes()
    path.write_bytes(first[:-30])
    assert "wrote" in prepare("places_lt", lists, images).output
    assert path.read_bytes() == first
    file = lists / "Places_LT_train.txt"
    file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines()[1:]))
    assert "training images 14" in prepare("places_lt", lists, images).output
    # A defect leaves the index of before alone.
    whole = path.read_bytes()
    file.write_text(file.read_text() + "data_256/none.jpg 0\n")
    assert prepare("places_lt", lists, images).exit_code == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/x.JPEG", "error: lists must have lines '<path> <label>': line 2 of '{train}' is 'train/x.JPEG'"),
        ("train/x.JPEG -1", "error: lists must have lines '<path> <label>': line 2 of '{train}' is 'train/x.JPEG -1'"),
        (
            "train/x.JPEG 4",
            "error: lists must name training images of every class: class '3' has none; give the whole training list",
        ),
    ],
)
def test_a_bad_line_is_one_sentence(line: str, message: str, tmp_path: Path) -> None:
    lists, images = write_miniature("imagenet_lt", tmp_path)
    file = lists / "ImageNet_LT_train.txt"
    first, rest = file.read_text().split("\n", 1)
    file.write_text(f"{first}\n{line}\n{rest}")
    done = prepare("imagenet_lt", lists, images, "--any-counts")
    assert (done.exit_code, done.stderr) == (1, message.format(train=file) + "\n")


def test_a_label_out_of_range_and_an_empty_list_are_one_sentence(tmp_path: Path) -> None:
    lists, images = write_miniature("imagenet_lt", tmp_path)
    file = lists / "ImageNet_LT_val.txt"
    file.write_text(file.read_text().replace(" 2", " 1000"))
    done = prepare("imagenet_lt", lists, images)
    assert done.stderr == (
        "error: lists must have labels of training images alone: the val list has label 1000; correct it\n"
    )
    file.write_text("\n")
    done = prepare("imagenet_lt", lists, images)
    assert done.stderr == (
        "error: lists must name images of every part: the val list names none; give the list of the val images\n"
    )
    file.unlink()
    done = prepare("imagenet_lt", lists, images)
    assert done.stderr.startswith(f"error: lists must hold the list files: '{file}' does not exist; put it there, or")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be iNaturalist annotation files in JSON"),
        ("{}", "lacks 'images'; fetch it again"),
        (annotations([(0, "a.jpg", 9)], [5]), "must give every image a known category: image 'a.jpg'"),
    ],
)
def test_a_damaged_annotation_file_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    lists, images = write_miniature("inaturalist2018", tmp_path)
    (lists / "train2018.json").write_text(text)
    done = prepare("inaturalist2018", lists, images)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: lists must ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_wrong_arguments_are_one_sentence(tmp_path: Path) -> None:
    lists, images = write_miniature("imagenet_lt", tmp_path)
    assert prepare("imagenet", lists, images).stderr == (
        "error: name must be one of imagenet_lt, places_lt, inaturalist2018, got 'imagenet'\n"
    )
    assert prepare("imagenet_lt", lists, tmp_path / "no").stderr.startswith("error: images: folder ")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a local server shows it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        server.daemon_threads = False  # so that closing waits for the answers under way
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_lists_are_fetched_by_address_and_checksum(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    lists, images = write_miniature("imagenet_lt", tmp_path)
    urls = []
    for file in lists.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        urls += ["--url", f"{address}/{file.name}#sha256={digest}"]
        file.rename(folder / file.name)
    lists.rmdir()
    wrong = urls[1].rpartition("=")[0] + "=" + "0" * 64
    done = prepare("imagenet_lt", lists, images, "--any-counts", "--url", wrong)
    assert done.exit_code == 1
    assert done.stderr.startswith(
        f"error: url must give a file with SHA-256 {'0' * 64}: {urls[1].partition('#')[0]} gives one with "
    )
    assert list(lists.iterdir()) == []
    done = prepare("imagenet_lt", lists, images, "--any-counts", *urls)
    assert done.exit_code == 0
    assert done.stdout.count("fetched ") == 3
    done = prepare("imagenet_lt", lists, images, "--any-counts", *urls)
    assert done.stdout.count("already there: ") == 3
    assert done.stdout.endswith("nothing to do\n")


def test_addresses_without_checksum_or_answer_are_one_sentence(served: tuple[Path, str], tmp_path: Path) -> None:
    _, address = served
    lists, images = write_miniature("imagenet_lt", tmp_path)
    for url, message in (
        (f"{address}/a.txt", "error: url must end in '#sha256=' and the 64 digits of the file's hash, got "),
        ("file:///etc/passwd#sha256=" + "0" * 64, "error: url must be the http address of a file, got "),
        (f"{address}/none.txt#sha256=" + "0" * 64, "error: url must be an address that can be fetched: "),
    ):
        done = prepare("imagenet_lt", lists, images, "--url", url)
        assert done.exit_code == 1
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1
