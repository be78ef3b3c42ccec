"""Folders and files as people have them: each layout and kind of file with the right answer."""

import os
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drolt_pl.data import ImageFolderLT, ManifestLT
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.decoding import read_rgb
from drolt_pl.data.images.files import UnreadableError
from drolt_pl.errors import SettingError

SETTINGS: dict[str, Any] = {"image_size": 4, "imbalance_ratio": None, "protocol": "holdout", "test_per_class": 1}
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def put(root: Path, *folders: str, each: int = 5, name: str = "{}.png") -> None:
    """That many small images, no two alike, in each folder."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            seed = zlib.crc32(f"{folder} {number} {name}".encode())
            pixels = np.random.default_rng(seed).integers(256, size=(6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / name.format(number), "PNG")


def parts(train: str, val: str | None = None, test: str | None = None) -> Callable[[Path], None]:
    return lambda root: put(root, *(f"{part}/{name}" for part in (train, val, test) if part for name in ("ant", "bee")))


def with_more(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    """`train` and `test` of two classes, and more."""

    def make(root: Path) -> None:
        for maker in (parts("train", test="test"), *makers):
            maker(root)

    return make


def more(*folders: str, **how: Any) -> Callable[[Path], None]:
    return lambda root: put(root, *folders, **how)


def written(path: str, content: bytes = b"text") -> Callable[[Path], object]:
    def write(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return write


def tiny_imagenet(root: Path) -> None:
    """As published: images one level deeper, labels of `val` in a list, those of `test` secret."""
    for name in ("n01", "n02"):
        put(root, f"train/{name}/images", name=name + "_{}.JPEG")
        (root / "train" / name / f"{name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t3\t3\n")
    put(root, "val/images", each=4, name="val_{}.JPEG")
    put(root, "test/images", each=4, name="test_{}.JPEG")
    lines = [f"val_{number}.JPEG\tn0{number % 2 + 1}\t0\t32\t44\t62\r\n" for number in range(4)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def as_flat(root: Path) -> None:
    put(root, "ant", "bee")


# Made by a function; training, validation and test images; what is told.
FOUND: dict[str, tuple[Callable[[Path], object], tuple[int, int, int], str]] = {
    "train and test": (parts("train", test="test"), (8, 2, 10), "'train' trains, 'test' tests"),
    "Train and Test": (parts("Train", test="Test"), (8, 2, 10), "'Train' trains, 'Test' tests"),
    "TRAIN, VAL, TEST": (parts("TRAIN", "VAL", "TEST"), (10, 10, 10), "'VAL' validates, 'TEST' tests"),
    "training, testing": (parts("training", test="testing"), (8, 2, 10), "'training' trains, 'testing' tests"),
    "valid": (parts("train", "valid", "test"), (10, 10, 10), "'valid' validates"),
    "validation": (parts("Training", "Validation", "Testing"), (10, 10, 10), "'Validation' validates"),
    "dev": (parts("train", "dev", "test"), (10, 10, 10), "'dev' validates"),
    "dev alone tests": (parts("train", "dev"), (8, 2, 10), "'dev' tests"),
    "flat": (as_flat, (8, 0, 2), ""),
    "Tiny ImageNet": (tiny_imagenet, (8, 2, 4), "left out: 'test' has 4 images in no class's folder"),
    "one more level": (more("train/ant/images", "train/bee/images", "test/ant/images"), (8, 2, 5), "'test' tests"),
    "an empty test": (
        lambda root: (parts("train", "val")(root), (root / "test").mkdir()),
        (8, 2, 10),
        "'val' tests; left out: 'test' holds no images",
    ),
    "a test of empty classes": (
        lambda root: (parts("train")(root), (root / "test" / "ant").mkdir(parents=True)),
        (8, 0, 2),
        "left out: 'test' holds no images",
    ),
    "an unlabelled test": (
        lambda root: (parts("train", "val")(root), put(root, "test")),
        (8, 2, 10),
        "left out: 'test' has 5 images in no class's folder",
    ),
    "a class missing in test": (lambda root: (parts("train")(root), put(root, "test/ant")), (8, 2, 5), "'test' tests"),
    "loose images": (with_more(more("train", each=3)), (8, 2, 10), "in 'train': 3 images in no class's folder"),
    "folders beside the parts": (with_more(more("extra/ant")), (8, 2, 10), "beside the parts: 'extra'"),
    "hidden files": (
        with_more(written("train/ant/.x.png"), written("train/.git/a.png"), written("__MACOSX/train/._a.png")),
        (8, 2, 10),
        "",
    ),
    "Thumbs.db and HEIC": (
        with_more(written("train/ant/Thumbs.db"), written("train/ant/a.HEIC"), written("test/bee/b.heic")),
        (8, 2, 10),
        "passed over: 3 files not called like an image: .heic (2), .db (1)",
    ),
    "jfif": (with_more(more("train/ant", name="{}.jfif")), (12, 3, 10), ""),
    "no suffix": (
        with_more(more("train/ant", name="image_{}"), written("train/ant/README")),
        (12, 3, 10),
        "1 file not called like an image: without suffix (1)",
    ),
    "one class in NFC and NFD": (
        lambda root: put(root, f"train/{NFC}", "train/bee", f"test/{NFD}", "test/bee"),
        (8, 2, 10),
        "",
    ),
    "both spellings in one part": (
        lambda root: (put(root, f"{NFC}", f"{NFD}", name="{}.png"), put(root, "bee")),
        (12, 1, 2),
        f"class {NFC!r} has 2 folders",
    ),
    "names that are not UTF-8": (
        lambda root: (as_flat(root), os.rename(root / "ant" / "0.png", os.fsencode(root / "ant") + b"/\xe9.png")),
        (8, 0, 2),
        "",
    ),
    "a class that is not UTF-8": (
        lambda root: (as_flat(root), os.rename(root / "ant", os.fsencode(root) + b"/caf\xe9")),
        (8, 0, 2),
        "",
    ),
    "links": (
        lambda root: (
            put(root.parent / "elsewhere", "a"),
            as_flat(root),
            (root / "cow").symlink_to(root.parent / "elsewhere" / "a"),
        ),
        (12, 0, 3),
        "",
    ),
}


@pytest.mark.parametrize("layout", FOUND)
def test_a_layout_is_found(tmp_path: Path, layout: str) -> None:
    make, sizes, told = FOUND[layout]
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    module = ImageFolderLT(root=root, **SETTINGS)
    module.setup()
    assert (len(module.split.train), len(module.split.val), len(module.split.test)) == sizes
    assert all(note in "; ".join(module.notes) for note in told.split("; "))
    images = [targets for _, targets in module.test_dataloader()]
    assert sum(map(len, images)) == sizes[2]
    assert NFD not in module.class_names


# Made by a function; the whole sentence.
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no class folders": (
        more("."),
        r"root must hold a folder for each class: '.*' has 0 class folders, and 5 images without a label; put the "
        r"images of each class into a folder of its own, or name them in a manifest \(dataset=manifest\)",
    ),
    "one level too high": (
        lambda root: as_flat(root / "photos"),
        "root must hold a folder for each class: '.*root' has 1 class folders; its folders lie one level deeper: "
        "set dataset.root=.*root/photos",
    ),
    "a copy in the training folder": (
        lambda root: (parts("train/train")(root), parts("test")(root)),
        "root must hold a folder for each class: .*; its folders lie one level deeper: "
        "set dataset.train_dir=train/train",
    ),
    "two training folders": (
        parts("train", test="Training"),
        "train_dir must be given where several folders could be meant: 'Training', 'train'; name one, or merge them",
    ),
    "two validation folders": (
        parts("train", "valid", "dev"),
        "val_dir must be given where several folders could be meant: 'dev', 'valid'; name one, or merge them",
    ),
    "test without train": (
        parts("ant", test="test"),
        "train_dir must be given beside 'test': no folder of '.*' is called train; give the name of the training "
        "folder, or rename the other if it is a class",
    ),
    "parts inside classes": (
        lambda root: put(root, "ant/train", "ant/test", "bee/train", "bee/test"),
        "root must hold the parts outside the classes: '.*ant' holds 'test'; move the images to PART/CLASS, or name "
        "them in a manifest",
    ),
    "a class of other case in test": (
        with_more(more("test/Ant")),
        "root must hold training images of every class: 'Ant' is in 'test' alone; give it the name of 'ant'",
    ),
    "a class in test alone": (
        with_more(more("test/cow")),
        "root must hold training images of every class: 'cow' is in 'test' alone; add some, or remove its folder",
    ),
    "an empty class": (
        with_more(lambda root: (root / "train" / "cow").mkdir()),
        "root must hold training images of every class: '.*cow' holds no images; add some, or remove the folder",
    ),
    "a link to above": (
        with_more(lambda root: (root / "train" / "ant" / "all").symlink_to(root / "train")),
        "root must hold no folder that leads back to one that it lies in: '.*all' does; remove the link",
    ),
    "test is a link to train": (
        lambda root: (parts("train")(root), (root / "test").symlink_to(root / "train")),
        "test_dir must be another folder than train_dir, and not in it: their images would be the same, got 'test'",
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_a_layout_is_refused(tmp_path: Path, layout: str) -> None:
    make, sentence = REFUSED[layout]
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(SettingError, match=f"^{sentence}$"):
        ImageFolderLT(root=root, **SETTINGS).setup()


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
UPRIGHT = np.dstack([GREY] * 3)


def saved(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> None:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)


def turned(path: Path, **options: Any) -> None:
    """An image that lies on its side, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(UPRIGHT)).save(path, **{"exif": exif} | options)


# An orientation of 6, and a resolution in text, which PIL cannot write again.
DAMAGED = b"Exif\0\0" + bytes.fromhex("49492a000800000002001201030001000000060000001a010200020000003100000000000000")


def animated(path: Path) -> None:
    Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(255 - GREY)])


# A file's name, what writes it, and the tolerance of a grey ramp.
KINDS: dict[str, tuple[str, Callable[[Path], None], int]] = {
    "EXIF in JPEG": ("a.jpg", lambda path: turned(path, quality=100, subsampling=0), 3),
    "EXIF in PNG": ("a.png", turned, 0),
    "EXIF in TIFF": ("a.tif", turned, 0),
    "EXIF in WebP": ("a.webp", lambda path: turned(path, lossless=True), 0),
    "damaged EXIF": ("a.png", lambda path: saved(path, UPRIGHT, exif=b"Exif\0\0II*\0\xff\xff"), 0),
    "damaged EXIF of a turned image": ("a.png", lambda path: turned(path, exif=DAMAGED), 0),
    "16 bits": ("a.png", lambda path: saved(path, GREY.astype(np.uint16) * 257), 0),
    "16 bits in PGM": ("a.pgm", lambda path: saved(path, GREY.astype(np.uint16) * 257), 0),
    "32 bits": ("a.tif", lambda path: saved(path, GREY.astype(np.int32) * 257), 0),
    "float": ("a.tif", lambda path: saved(path, GREY.astype(np.float32) / 255), 0),
    "palette": ("a.png", lambda path: saved(path, GREY, "P"), 4),
    "alpha": ("a.png", lambda path: saved(path, np.dstack([UPRIGHT, 255 - GREY])), 0),
    "grey with alpha": ("a.png", lambda path: saved(path, GREY, "LA"), 0),
    "CMYK": ("a.tif", lambda path: saved(path, UPRIGHT, "CMYK"), 0),
    "animated GIF": ("a.gif", animated, 0),
    "animated WebP": ("a.webp", lambda path: saved(path, UPRIGHT, save_all=True, append_images=[], lossless=True), 0),
    "PNG called JPEG": ("a.jpg", lambda path: saved(path, UPRIGHT, format="PNG"), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file_is_read(tmp_path: Path, kind: str) -> None:
    name, write, tolerance = KINDS[kind]
    write(tmp_path / name)
    pixels = read_rgb(str(tmp_path / name)).astype(int)
    assert np.abs(pixels - UPRIGHT).max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_size_of_its_own_is_that_of_the_upright_image(tmp_path: Path, suffix: str) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(4):
            turned(tmp_path / name / f"{number}.{suffix}")
    assert ImageFolderLT(root=tmp_path, **SETTINGS | {"image_size": None}).catalogue().source.shape == (3, 8, 8)
    exif = Image.Exif()
    exif[0x0112] = 8
    for path in tmp_path.rglob(f"*.{suffix}"):
        Image.new("RGB", (6, 4)).save(path, exif=exif)
    assert ImageFolderLT(root=tmp_path, **SETTINGS | {"image_size": None}).catalogue().source.shape == (3, 6, 4)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (GREY.astype(np.int32) * 10**6, "its values of mode I are 0 to 2.52e\\+08, and 0 to 65535 are known"),
        (GREY.astype(np.float32), "its values of mode F are 0 to 252, and 0 to 1 are known"),
        (np.full((8, 8), np.nan, np.float32), "its values of mode F are nan to nan, and 0 to 1 are known"),
        (GREY.astype(np.float32) / 255 - 0.5, "its values of mode F are -0.5 to .*, and 0 to 1 are known"),
    ],
)
def test_numbers_whose_white_is_unknown_are_refused(tmp_path: Path, pixels: Any, said: str) -> None:
    saved(tmp_path / "a.tif", pixels)
    with pytest.raises(UnreadableError, match=rf"a.tif' cannot be read \({said}: save it with 8 bits a channel\)"):
        read_rgb(str(tmp_path / "a.tif"))


LISTS = {
    "plain": b"path,label,split\nant/0.png,ant,train\n",
    "BOM and CRLF": b"\xef\xbb\xbfpath,label,split\r\nant/0.png,ant,train\r\n",
    "backslashes": b"path,label,split\nant\\0.png,ant,train\n",
    "quotes and spaces": b'path,label,split\n"ant/0.png", ant ,train\n',
    "accents apart": f"path,label,split\nant/0.png,{NFD},train\nant/1.png,{NFC},test\n".encode(),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_read(tmp_path: Path, kind: str) -> None:
    as_flat(tmp_path)
    more = "".join(f"bee/{number}.png,bee,{part}\n" for number, part in enumerate(("train", "train", "test")))
    (tmp_path / "list.csv").write_bytes(LISTS[kind] + more.encode())
    module: LongTailDataModule = ManifestLT(manifest=tmp_path / "list.csv", **SETTINGS)
    module.setup()
    assert len(module.class_names) == 2
    assert sum(len(targets) for _, targets in module.centroid_dataloader()) == 3


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("path,label\nant/0.png,ant\n".encode("utf-16"))
    with pytest.raises(SettingError, match=r"^manifest must be CSV text in UTF-8: '.*list.csv' cannot be read as such"):
        ManifestLT(manifest=tmp_path / "list.csv", **SETTINGS).setup()
