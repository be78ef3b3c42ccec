"""How a folder of images is laid out: which folders train, validate and test, found by what their names mean."""

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drolt_pl.data.images.suffixes import is_image, passed_over, suffix_of
from drolt_pl.errors import SettingError
from drolt_pl.regular import read_text

# Names of a part's folder, in any case.
MEANINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
VERBS = {"train": "trains", "val": "validates", "test": "tests"}
# Folders that systems and archives leave behind.
LEFT_BEHIND = ("__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information")
ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet: a line `name<tab>class<tab>box` for each image
SHOWN = 5  # names


@dataclass
class Listing:
    """What lies in the folder of a part.

    Attributes:
        directory: The folder, below the root; empty for the root itself.
        files: Paths of images below the root by the name of their class, sorted.
        loose: Images in no class's folder.
        others: Files that are no images, by suffix.
        spellings: Folders of each class: two where composed and decomposed accents are both in use.
    """

    directory: str
    files: dict[str, list[str]] = field(default_factory=dict)
    loose: int = 0
    others: Counter[str] = field(default_factory=Counter)
    spellings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Images in folders of classes."""
        return sum(map(len, self.files.values()))


def find_parts(root: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """The folder of each part that there is; of training the root itself, as "", where no folder is a part's.

    Args:
        root: Folder of everything.
        given: By part the name of its folder, or None to find it by its meaning.

    Raises:
        SettingError: a folder that is missing or means what another one means, or parts that lie in each other.
    """
    found = {part: name for part, name in given.items() if name is not None}
    for part, name in found.items():
        if not (root / name).is_dir():
            remedy = "correct it, or null to find it by its name"
            raise SettingError(f"{part}_dir", "must be a folder that exists", str(root / name), remedy=remedy)
    names = folders_in(root)
    for part, meanings in MEANINGS.items():
        taken = () if part == "train" else (given["val"], given["test"])
        meant = [name for name in names if name.casefold() in meanings and name not in taken]
        if part not in found and len(meant) > 1:
            demand = f"must be given where several folders could be meant: {', '.join(map(repr, meant))}"
            raise SettingError(f"{part}_dir", demand, remedy="name one, or merge them")
        if part not in found and meant:
            found[part] = meant[0]
    if "train" not in found and found:
        demand = f"must be given beside {next(iter(found.values()))!r}: no folder of {str(root)!r} is called train"
        remedy = "give the name of the training folder, or rename the other if it is a class"
        raise SettingError("train_dir", demand, remedy=remedy)
    parts = {part: found[part] for part in MEANINGS if part in found} or {"train": ""}
    _require_apart(root, parts)
    if parts == {"train": ""}:
        _require_outside(root)
    return parts


def listing(root: Path, directory: str) -> Listing:
    """List the images of a part by class: those at any depth below `root/directory/CLASS`.

    Hidden files are passed over, links are followed.

    Raises:
        SettingError: a folder that cannot be read, or leads back to one that it lies in.
    """
    found = Listing(directory)
    top = root / directory
    for entry in scan(top):
        if entry.is_dir() and not is_hidden(entry.name):
            name, prefix = composed(entry.name), f"{directory}/{entry.name}".lstrip("/")
            found.spellings.setdefault(name, []).append(entry.name)
            found.files.setdefault(name, []).extend(_images(root / prefix, prefix, found.others, (_identity(top),)))
        elif not is_hidden(entry.name) and is_image(top, entry.name):
            found.loose += 1
    _label_by_list(top, found)
    found.files = {name: sorted(found.files[name]) for name in sorted(found.files)}
    return found


def _label_by_list(top: Path, found: Listing) -> None:
    """Gives images their classes where they lie in `images/` beside a list, as in Tiny ImageNet's `val`."""
    path = top / ANNOTATIONS
    if list(found.files) != ["images"] or not path.is_file():
        return
    files = {name.rpartition("/")[2]: name for name in found.files.pop("images")}
    for line in read_text(path, "a list in UTF-8").splitlines():
        name, _, rest = line.partition("\t")
        if name in files:
            found.files.setdefault(composed(rest.partition("\t")[0]), []).append(files.pop(name))
    found.loose += len(files)


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder.

    Raises:
        SettingError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        demand = f"must hold folders that can be read: {str(folder)!r} cannot ({error.strerror})"
        raise SettingError("root", demand, remedy="allow it, or move it") from None


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    return sorted(entry.name for entry in scan(folder) if entry.is_dir() and not is_hidden(entry.name))


def composed(name: str) -> str:
    """A name with composed accents: file systems differ in how they keep them."""
    return unicodedata.normalize("NFC", name)


def notes_of(root: Path, listings: Mapping[str, Listing]) -> Iterator[str]:
    """What a user should know of a layout, a sentence each."""
    if listings["train"].directory:
        yield "parts: " + ", ".join(f"{found.directory!r} {VERBS[part]}" for part, found in listings.items())
        used = {found.directory for found in listings.values()}
        beside = [name for name in folders_in(root) if name not in used]
        if beside:
            yield f"passed over beside the parts: {_few([repr(name) for name in beside])}"
    for found in listings.values():
        where = repr(found.directory or str(root))
        for name, spellings in found.spellings.items():
            if len(spellings) > 1:
                yield f"class {name!r} has {len(spellings)} folders in {where}, which spell its accents differently"
        if found.loose:
            yield f"passed over in {where}: {counted(found.loose, 'image')} in no class's folder"
    others = sum((found.others for found in listings.values()), Counter[str]())
    if others:
        yield passed_over(others)


def counted(number: int, what: str) -> str:
    """A number of things: "1 image", "2 images"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _few(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN:,} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _require_apart(root: Path, parts: Mapping[str, str]) -> None:
    """Refuses a part whose folder is another part's, or lies in it."""
    found = {part: Path(os.path.realpath(root / name)) for part, name in parts.items()}
    for one, other in itertools.permutations(found, 2):
        if found[other].is_relative_to(found[one]):
            demand = f"must be another folder than {one}_dir, and not in it: their images would be the same"
            raise SettingError(f"{other}_dir", demand, parts[other])


def _require_outside(root: Path) -> None:
    """Refuses parts inside the folders of classes, which would train on test images."""
    for name in folders_in(root):
        inside = {folder.casefold(): folder for folder in folders_in(root / name)}
        held_out = [inside[word] for word in (*MEANINGS["test"], *MEANINGS["val"]) if word in inside]
        if held_out and any(word in inside for word in MEANINGS["train"]):
            demand = f"must hold the parts outside the classes: {str(root / name)!r} holds {held_out[0]!r}"
            raise SettingError("root", demand, remedy="move the images to PART/CLASS, or name them in a manifest")


def _images(folder: Path, prefix: str, others: Counter[str], above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Paths of the images at any depth below a folder, each with the prefix and forward slashes."""
    here = _identity(folder)
    if here in above:
        demand = f"must hold no folder that leads back to one that it lies in: {str(folder)!r} does"
        raise SettingError("root", demand, remedy="remove the link")
    for entry in scan(folder):
        if is_hidden(entry.name):
            continue
        # A folder that is called like an image is taken for one, which cannot be read.
        if is_image(folder, entry.name):
            yield f"{prefix}/{entry.name}"
        elif entry.is_dir():
            yield from _images(Path(entry.path), f"{prefix}/{entry.name}", others, (*above, here))
        else:
            others[suffix_of(entry.name)] += 1


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        demand = f"must hold folders that can be read: {str(folder)!r} cannot ({error.strerror})"
        raise SettingError("root", demand, remedy="allow it, or move it") from None
    return status.st_dev, status.st_ino


def is_hidden(name: str) -> bool:
    """Whether a file or a folder is passed over by its name: hidden, or left behind by a system or an archive."""
    return name.startswith(".") or name.casefold() in LEFT_BEHIND
