"""`drolt data`: look into a data set, and prepare the published large ones."""

import os
from pathlib import Path
from typing import Annotated

import typer

from drolt_pl.cli.errors import fail, one_sentence
from drolt_pl.cli.progress import progress
from drolt_pl.errors import SettingError

app = typer.Typer(
    help="Look into a data set; prepare ImageNet-LT, Places-LT and iNaturalist 2018.",
    no_args_is_help=True,
)
Threads = Annotated[int, typer.Option(min=1, help="Threads that decode images.", show_default="one a core")]
CORES = os.cpu_count() or 1


@app.command()
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
        for address in url or []:
            typer.echo(f"{'fetched' if fetch(address, lists) else 'already there:'} {address.partition('#')[0]}")
        if up_to_date(path, name, lists, images):
            typer.echo(f"{path} is up to date: nothing to do")
            return
        index = build_index(name, lists, images)
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
            typer.echo(defects.report())
            fail(f"{name} has {defects.total:,} defects, see above; nothing was written")
        index.save(path)
        counts = ", ".join(f"{what} {count:,}" for what, count in facts_of(index).items() if count)
        typer.echo(f"wrote {path}: {counts}; SHA-256 {index.sha256}")


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="A folder of images, a manifest (.csv, .csv.gz), an index (.npz) or stored features.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder that a manifest's or index's paths are relative to.")
    ] = None,
    png: Annotated[Path, typer.Option(help="Where the class histogram is drawn.")] = Path("class_histogram.png"),
    threads: Threads = CORES,
) -> None:
    """Show classes, shot groups, sizes, modes, unreadable files, and test images that are training images.

    Every file is decoded. Exit code 1 if a file cannot be read, or an image is both in training and in test.
    """
    from drolt_pl.data.prepare.check import check_data

    with one_sentence():
        with progress("decoding") as advance:
            found = check_data(path, root=root, threads=threads, progress=advance)
        typer.echo(found.report())
        found.draw(png)
        typer.echo(f"wrote {png}")
        if found.unreadable or found.shared:
            fail(
                f"{path}: {len(found.unreadable):,} files cannot be read, and {len(found.shared):,} images of "
                "validation or test are training images"
            )
