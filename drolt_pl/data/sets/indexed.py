"""ImageNet-LT, Places-LT and iNaturalist 2018 from the index that `drolt data prepare` writes."""

from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np

from drolt_pl.checked import checked
from drolt_pl.data.prepare.index import PART_NAMES, load_index, read_meta
from drolt_pl.data.sets.folder import FileSettings, ImageFileDataModule
from drolt_pl.data.sources import Catalogue
from drolt_pl.errors import SettingError
from drolt_pl.ranges import AnyPath


@checked
class IndexedImages(ImageFileDataModule):
    """Images named by an index.

    Args:
        index: The file.
        root: Folder that its paths are relative to; None is the folder that was checked when it was written.
        settings: Those of `ImageFileDataModule`.
    """

    index_name: ClassVar[str]  # name of the data set in the index

    def __init__(
        self,
        *,
        index: AnyPath,
        root: AnyPath | None = None,
        **settings: Unpack[FileSettings],
    ) -> None:
        self.index = Path(index).expanduser()
        if not self.index.is_file():
            remedy = f"write it with `drolt data prepare {self.index_name} --lists DIR --images DIR --out {index}`"
            raise SettingError("index", "must be a file that exists", str(index), remedy=remedy)
        meta = read_meta(self.index)
        if meta["name"] != self.index_name:
            raise SettingError("index", f"must be the index of {self.index_name}: {str(index)!r} is of {meta['name']}")
        super().__init__(root=meta["root"] if root is None else root, **settings)

    def catalogue(self) -> Catalogue:
        index = load_index(self.index)
        return Catalogue(
            names=index.names,
            targets=index.targets,
            official=np.array(PART_NAMES)[index.official],
            class_names=index.class_names.tolist(),
            source=self._source(index.names),
        )


class ImageNetLT(IndexedImages):
    """ImageNet-LT (Liu et al. 2019): 115,846 training images of 1,000 classes, 1,280 to 5 a class.

    20 images a class validate, ILSVRC's 50,000 validation images test. Arguments as for `IndexedImages`.
    """

    index_name = "imagenet_lt"


class PlacesLT(IndexedImages):
    """Places-LT (Liu et al. 2019): 62,500 training images of 365 classes; arguments as for `IndexedImages`."""

    index_name = "places_lt"


class INaturalist2018(IndexedImages):
    """iNaturalist 2018: 437,513 training images of 8,142 species. Its official validation set tests.

    Arguments as for `IndexedImages`.
    """

    index_name = "inaturalist2018"
