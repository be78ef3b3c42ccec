"""`drolt embed`: features of a data set by a pretrained network."""

from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.data import CORES, Threads
from drolt_pl.cli.errors import one_sentence
from drolt_pl.cli.outputs import require_replaceable
from drolt_pl.cli.progress import progress
from drolt_pl.ranges import Count, Seed, Whole


def embed(
    data: Annotated[
        list[str], typer.Argument(help="A folder of images or a manifest, or overrides: dataset=cifar100_lt ...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    backbone: Annotated[
        str | None, typer.Option(help="timm:NAME; or a run's folder, checkpoint or saved model. [backbone=... of DATA]")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of timm:NAME: a file, or true to fetch timm's own.")] = None,
    rename: Annotated[
        str | None, typer.Option(help="order: take the file's tensors in their order, whatever their names.")
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Only the images of the split that DATA's overrides make, in its parts.")
    ] = False,
    views: Annotated[Whole, typer.Option(help="Augmented views of each training image, stored beside it.")] = 0,
    batch_size: Annotated[Count, typer.Option(help="Images that go forward together.")] = 64,
    dtype: Annotated[str, typer.Option(help="Of the stored numbers: float16 or float32.")] = "float16",
    precision: Annotated[str, typer.Option(help="32, or bf16 to compute in bfloat16.")] = "32",
    threads: Threads = CORES,
    seed: Annotated[Seed, typer.Option(help="Of the augmentations.")] = 0,
) -> None:
    """Write the features of all images of a data set, for dataset=features dataset.file=OUT.

    Labels, official parts, class names and the images' names go with them: a run draws from the features the split that
    it would draw from the images.
    """
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.errors import SettingError
    from drolt_pl.run.conf import CONF
    from drolt_pl.run.embed import Settings, embed_data

    with one_sentence():
        if out.suffix != ".safetensors":
            raise SettingError("--out", "must end in .safetensors", str(out))
        require_replaceable("-o", out, rb'.{8}\{"__metadata__":\{"(backbone|class_names|precision|weights)":')
        settings = Settings(
            backbone=backbone,
            weights=weights,
            rename=rename,
            split=split,
            views=views,
            batch_size=batch_size,
            dtype=dtype,
            precision=precision,
            threads=threads,
            seed=seed,
        )
        with progress("embedding") as advance:
            found = embed_data(data, CONF, settings, advance)
        found.save(out)
        number, width = found.features.shape
        beside = "" if found.views is None else f", {len(found.views)} views of {found.views.shape[1]:,}"
        typer.echo(f"wrote {out}: {number:,} samples of {len(found.class_names):,} classes, {width:,} features{beside}")
