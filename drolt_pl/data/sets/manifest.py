"""Images named by a table of your own: a CSV file of path, label and, if you want, split."""

import csv
import gzip
import os
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import numpy as np

from drolt_pl.checked import checked
from drolt_pl.data.prepare.index import PART_NAMES
from drolt_pl.data.prepare.reading import OUTSIDE, SHOWN, bounded_lines, path_problem, with_slashes
from drolt_pl.data.sets.folder import FileSettings, ImageFileDataModule
from drolt_pl.data.sources import Catalogue
from drolt_pl.errors import SettingError, reason
from drolt_pl.ranges import AnyPath

MAX_DIGITS = 19  # of labels that are taken for numbers


@checked
class ManifestLT(ImageFileDataModule):
    """Images named by a CSV file. Its first line names the columns `path`, `label` and, if you want, `split`.

    Labels name the classes; if all are whole numbers, classes are in the order of the numbers, else of the alphabet.
    `split` is train, val or test; without it, or with no test images, `split_seed` chooses `test_per_class` images.
    Other columns are passed over.

    Args:
        root: Folder that the paths are relative to; None is the manifest's own folder.
        manifest: The file; `.gz` is unpacked.
        allow_outside: Whether paths may lead out of the root.
        settings: Those of `ImageFileDataModule`.
    """

    def __init__(
        self,
        *,
        manifest: AnyPath | None,
        root: AnyPath | None = None,
        allow_outside: bool = False,
        **settings: Unpack[FileSettings],
    ) -> None:
        if manifest is None:
            raise SettingError("manifest", "must be given: a CSV file, as in dataset.manifest=/data/labels.csv")
        self.manifest = Path(manifest).expanduser()
        if not self.manifest.is_file():
            raise SettingError("manifest", "must be a CSV file that exists", str(manifest), remedy="give its path")
        self.allow_outside = allow_outside
        super().__init__(root=self.manifest.parent if root is None else root, **settings)

    def catalogue(self) -> Catalogue:
        names: list[bytes] = []
        labels: list[str] = []
        parts: list[str] = []
        lines: dict[str, int] = {}
        for line, written, label, part in self._entries():
            path = with_slashes(written, self.root)
            self._require_inside(path, line)
            same = os.path.normpath(os.path.join(self.root, path))
            if same in lines:
                raise self._wrong(
                    f"must name each image once: lines {lines[same]} and {line} name {path[:SHOWN]!r}", "keep one"
                )
            lines[same] = line
            names.append(os.fsencode(path))
            labels.append(unicodedata.normalize("NFC", label))
            parts.append(part)
        if not names:
            raise self._wrong(f"must name images: {str(self.manifest)!r} names none", "add a line for each")
        trained = {label for label, part in zip(labels, parts, strict=True) if part == "train"}
        for label, part in zip(labels, parts, strict=True):
            if label not in trained:
                demand = f"must give every label a training line: {label[:SHOWN]!r} is in {part} alone"
                raise self._wrong(demand, "add some, or drop it")
        numeric = all(label.isascii() and label.isdigit() and len(label) < MAX_DIGITS for label in trained)
        class_names = sorted(trained, key=lambda label: (int(label), label) if numeric else label)
        class_ids = {label: class_id for class_id, label in enumerate(class_names)}
        paths = np.array(names, dtype=np.bytes_)
        return Catalogue(
            names=paths,
            targets=np.array([class_ids[label] for label in labels], np.int64),
            official=np.array(parts),
            class_names=class_names,
            source=self._source(paths),
        )

    def _entries(self) -> Iterator[tuple[int, str, str, str]]:
        """Line number, path, label and part of each entry."""
        opened = gzip.open if self.manifest.suffix == ".gz" else open
        try:
            with opened(self.manifest, "rt", encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(bounded_lines(file), strict=True)
                columns = list(reader.fieldnames or ())
                if [columns.count(name) for name in ("path", "label")] != [1, 1] or columns.count("split") > 1:
                    demand = "must name the columns path, label and, if wanted, split in its first line, once each"
                    names = [column[:80] for column in columns[:20]]
                    raise SettingError("manifest", demand, names, remedy="commas separate them")
                for row in reader:
                    path, label = (str(row["path"] or "").strip(), str(row["label"] or "").strip())
                    part, line = str(row.get("split", "train") or "").strip(), reader.line_num
                    if None in row or None in row.values() or not path or not label:
                        demand = f"must have a value for each of the columns {','.join(columns)[:200]} in every line"
                        fault = "has more" if None in row else "is short of it"
                        raise self._wrong(f"{demand}: line {line} of {str(self.manifest)!r} {fault}", "correct it")
                    if part not in PART_NAMES:
                        demand = f"must have one of {PART_NAMES} as split: line {line} of {str(self.manifest)!r} has"
                        raise self._wrong(f"{demand} {part[:SHOWN]!r}", "correct it")
                    yield line, path, label, part
        except (csv.Error, EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
            demand = f"must be CSV text in UTF-8: {str(self.manifest)!r} cannot be read as such ({reason(error)})"
            raise self._wrong(demand, "correct or fetch it again") from None

    def _require_inside(self, path: str, line: int) -> None:
        problem = path_problem(path, self.root)
        if problem is not None and not (self.allow_outside and problem == OUTSIDE):
            demand = f"must name images below {str(self.root)!r}: {path[:SHOWN]!r} in line {line} {problem}"
            remedy = "correct it" + (", or set dataset.allow_outside=true" if problem == OUTSIDE else "")
            raise self._wrong(demand, remedy)

    def _wrong(self, demand: str, remedy: str) -> SettingError:
        return SettingError("manifest", demand, remedy=remedy)
