"""Images named by a table of your own: a CSV file of path, label and, if you like, split."""

import csv
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drolt_pl.data.images.sources import Catalogue
from drolt_pl.data.prepare.index import PART_NAMES
from drolt_pl.data.sets.folder import ImageFileDataModule


class ManifestLT(ImageFileDataModule):
    """Images named by a CSV file whose first line names the columns `path`, `label` and, if there is one, `split`.

    Labels name the classes; if all are whole numbers, classes are in the order of the numbers, else of the alphabet.
    `split` is train, val or test; without it, or with no test images, `test_per_class` images are taken by
    `split_seed`. Other columns are passed over.

    Args:
        root: Folder that the paths are relative to; None is the manifest's own folder.
        manifest: The file; `.gz` is unpacked.
        kwargs: Those of `ImageFileDataModule`.
    """

    def __init__(
        self, *, manifest: str | os.PathLike[str] | None, root: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        if manifest is None:
            raise ValueError("manifest is not set; give the CSV file, as in dataset.manifest=/data/labels.csv")
        self.manifest = Path(manifest).expanduser()
        if not self.manifest.is_file():
            raise FileNotFoundError(f"manifest: file {str(manifest)!r} does not exist; give the path of a CSV file")
        super().__init__(root=self.manifest.parent if root is None else root, **kwargs)

    def catalogue(self) -> Catalogue:
        names: list[bytes] = []
        labels: list[str] = []
        parts: list[str] = []
        lines: dict[bytes, int] = {}
        for line, path, label, part in self._entries():
            name = os.fsencode(path)
            if name in lines:
                raise ValueError(f"manifest: lines {lines[name]} and {line} both name {path!r}; keep one")
            lines[name] = line
            names.append(name)
            labels.append(label)
            parts.append(part)
        if not names:
            raise ValueError(f"manifest: {str(self.manifest)!r} names no image; add a line for each")
        trained = {label for label, part in zip(labels, parts, strict=True) if part == "train"}
        for label, part in zip(labels, parts, strict=True):
            if label not in trained:
                raise ValueError(
                    f"manifest: label {label!r} is in {part} but in no training line; add some, or drop it"
                )
        numeric = all(label.isascii() and label.isdigit() for label in trained)
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
                reader = csv.DictReader(file, restkey="", strict=True)
                if not {"path", "label"} <= set(reader.fieldnames or ()):
                    raise ValueError(
                        f"manifest: the first line of {str(self.manifest)!r} must name the columns path, label and "
                        f"perhaps split, got {reader.fieldnames or 'nothing'}"
                    )
                for row in reader:
                    path, label = (str(row["path"] or "").strip(), str(row["label"] or "").strip())
                    part = str(row.get("split", "train") or "").strip()
                    if "" in row or None in row.values() or not path or not label:
                        raise ValueError(
                            f"manifest: line {reader.line_num} of {str(self.manifest)!r} does not have a value for "
                            f"each of the columns {','.join(reader.fieldnames or ())}; correct it"
                        )
                    if part not in PART_NAMES:
                        raise ValueError(
                            f"manifest: line {reader.line_num} of {str(self.manifest)!r} has split {part!r}; it must "
                            f"be one of {PART_NAMES}"
                        )
                    yield reader.line_num, path, label, part
        except (csv.Error, EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
            raise ValueError(
                f"manifest: {str(self.manifest)!r} cannot be read as CSV text in UTF-8 ({error}); correct or fetch it "
                "again"
            ) from None
