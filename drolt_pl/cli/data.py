"""`drolt data`: look into a data set, and prepare the published large ones."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from drolt_pl import escape, ranges
from drolt_pl.cli.errors import fail, one_sentence
from drolt_pl.cli.outputs import require_replaceable
from drolt_pl.cli.progress import progress
from drolt_pl.cli.ranged import ranged
from drolt_pl.errors import SettingError

app = typer.Typer(
    help="Look into a data set; prepare ImageNet-LT, Places-LT and iNaturalist 2018.",
    no_args_is_help=True,
)
AllowOutside = Annotated[bool, typer.Option("--allow-outside", help="Paths may lead out of the images' folder.")]
Threads = Annotated[ranges.Threads, typer.Option(help="Threads that decode images.", show_default="one a core")]
CORES = min(os.cpu_count() or 1, 1024)


@app.command()
@ranged
def prepare(
    name: Annotated[str, typer.Argument(help="imagenet_lt, places_lt or inaturalist2018.")],
    lists: Annotated[Path, typer.Option(help="Folder of the list files, such as ImageNet_LT_train.txt.")],
    images: Annotated[Path, typer.Option(help="Folder that the paths in the lists are relative to.")],
    out: Annotated[Path | None, typer.Option(help="The index to write.", show_default="data/NAME.npz")] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Fetch a list file first, ADDRESS#sha256=HASH, into the folder of the lists; repeatable."),
    ] = None,
    any_counts: Annotated[
        bool,
        typer.Option(
            "--any-counts", help="Accept lists with other counts than the published ones, such as a part of a set."
        ),
    ] = False,
    allow_outside: AllowOutside = False,
    threads: Threads = CORES,
) -> None:
    """Check the lists and every image of a large set, and write its compact index.

    A second call with the same lists and images does nothing. If something is wrong, the command reports all of it and
    writes nothing.
    """
    # Imported here: `drolt --help` should not wait for it.
    from drolt_pl.data.prepare.download import fetch
    from drolt_pl.data.prepare.published import RECIPES, build_index, facts_of, find_defects, mismatches, up_to_date

    with one_sentence():
        if name not in RECIPES:
            raise SettingError("name", f"must be one of {', '.join(RECIPES)}", name)
        if not images.is_dir():
            raise SettingError(
                f"images: folder {str(images)!r}", "does not exist", remedy="give the folder of the images"
            )
        path = out or Path("data") / f"{name}.npz"
        require_replaceable("--out", path, rb"PK\x03\x04.{26}meta\.npy", endings=(".npz",))
        for address in url or []:
            typer.echo(f"{'fetched' if fetch(address, lists) else 'already there:'} {address.partition('#')[0]}")
        if up_to_date(path, name, lists, images):
            typer.echo(f"{path} is up to date: nothing to do")
            return
        index = build_index(name, lists, images, allow_outside=allow_outside)
        recipe = RECIPES[name]
        with progress(f"checking {len(index.names):,} images") as advance:
            defects = find_defects(
                index,
                threads=threads,
                certain={} if any_counts else recipe.certain,
                progress=lambda done: advance(done, len(index.names)),
            )
        for line in mismatches(facts_of(index), recipe.reported | (recipe.certain if any_counts else {})):
            typer.echo(f"warning: {line}", err=True)
        if defects:
            typer.echo(escape.lines(defects.report()))
            fail(f"{name} has {defects.total:,} defects, see above; nothing was written")
        replace(index, digests=defects.digests).save(path)
        counts = ", ".join(f"{what} {count:,}" for what, count in facts_of(index).items() if count)
        typer.echo(f"wrote {path}: {counts}; SHA-256 {index.sha256}")


@app.command()
@ranged
def check(
    data: Annotated[
        list[str],
        typer.Argument(
            help="A folder of images, a manifest (.csv, .csv.gz), an index (.npz) or stored features; and overrides as "
            "of training, beside it or alone: dataset.imbalance_ratio=100."
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder that a manifest's or index's paths are relative to.")
    ] = None,
    png: Annotated[Path, typer.Option(help="Where the class histogram is drawn.")] = Path("class_histogram.png"),
    allow_outside: AllowOutside = False,
    threads: Threads = CORES,
) -> None:
    """Show what training would make of a data set: parts, classes, shot groups, sizes, modes and what is wrong.

    Every file is decoded. Exit code 1 if training would refuse the data set, a file cannot be read, or an image is in
    two parts, such as training and test.
    """
    from drolt_pl.data.prepare.check import check_data
    from drolt_pl.data.prepare.histogram import SOFTWARE, draw
    from drolt_pl.data.sets.layout import counted
    from drolt_pl.run.build import under
    from drolt_pl.run.conf import CONF
    from drolt_pl.run.data_words import configured, overrides_of

    with one_sentence():
        require_replaceable("--png", png, b".*Software\x00%s" % SOFTWARE.encode(), endings=(".png",))
        options = {"root": root, "allow_outside": allow_outside or None}
        config, datamodule = configured(overrides_of(data), CONF, options)
        with progress("decoding") as advance, under("dataset"):
            limits = (config.groups.many, config.groups.few)
            found = check_data(datamodule, limits=limits, threads=threads, progress=advance)
        typer.echo(found.report())
        counts = found.class_counts
        draw(found, f"{data[0]}: {counts.sum():,} training images of {len(counts):,} classes", png)
        typer.echo(f"wrote {png}")
        if found.unreadable or found.shared:
            fail(
                f"{data[0]}: {counted(len(found.unreadable), 'file')} cannot be read, and training shares "
                f"{counted(len(found.shared), 'image')} with validation or test"
            )
        if found.shared_held_out:
            fail(f"{data[0]}: validation shares {counted(len(found.shared_held_out), 'image')} with test")
        if found.refused is not None:
            raise found.refused.under("dataset")
