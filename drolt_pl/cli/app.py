"""The `drolt` command: train, use trained models, look at data and sweeps, keep runs and make tables of them."""

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from drolt_pl import escape
from drolt_pl.cli.classifiers import classifiers
from drolt_pl.cli.compare import compare
from drolt_pl.cli.data import app as data_app
from drolt_pl.cli.embed import embed
from drolt_pl.cli.errors import fail, one_sentence
from drolt_pl.cli.evaluate import evaluate
from drolt_pl.cli.export import adapt, export, info
from drolt_pl.cli.features import features
from drolt_pl.cli.figure import figure
from drolt_pl.cli.monitor import sweep, wandb_dashboard
from drolt_pl.cli.outputs import require_replaceable
from drolt_pl.cli.paper import paper
from drolt_pl.cli.predict import predict
from drolt_pl.cli.ranged import ranged
from drolt_pl.cli.reference import reference
from drolt_pl.cli.report import report
from drolt_pl.errors import SettingError, settle_surroundings

app = typer.Typer(
    help="Long-tailed recognition with the distributional robustness loss: training, predictions, sweeps, tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
for command in (
    *(predict, evaluate, export, adapt, info, report, compare, sweep, wandb_dashboard),
    *(classifiers, features, figure, paper, embed, reference),
):
    app.command()(ranged(command))
Root = Annotated[Path, typer.Option(help="Folder of the kept runs.")]


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def train(context: typer.Context) -> None:
    """Train one run, or with -m a sweep: `drolt train dataset=cifar100_lt loss.eps=2`; --help lists what can be set."""
    # In place of this process: Lightning starts ranks, and sweeps start jobs, by the name of the main module.
    os.execv(sys.executable, [sys.executable, "-m", "drolt_pl.cli.train", *context.args])


@app.command()
def results(
    root: Root = Path("results"),
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("RESULTS.md"),
    readme: Annotated[
        list[Path] | None,
        typer.Option(help="Also renew its <!-- NAME:begin --> tables from ROOT; may come twice."),
    ] = None,
    pages: Annotated[Path, typer.Option(help="Folder of the pages, figures and numbers behind it.")] = Path(
        "docs/results"
    ),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is not up to date.")] = False,
) -> None:
    """Write RESULTS.md, and the pages and figures behind it, from the files of kept runs."""
    # Imported here, as in the other commands: `drolt --help` should not wait for them.
    from drolt_pl.records import write_atomically
    from drolt_pl.regular import read_text
    from drolt_pl.report.page import MADE, draw_figures, left_behind, render_pages, render_readme, render_results

    with one_sentence():
        texts = {out: render_results(root, Path(os.path.relpath(pages, out.parent)).as_posix())}
        texts |= {page: render_readme(read_text(page, "Markdown"), root) for page in readme or ()}
        made = render_pages(root)
        texts |= {pages / name: text for name, text in made.items()}
        old = left_behind(pages, made)
        if check and old:
            fail(f"{old[0]} is of no table any more: run `drolt results` without --check")
        if not check:
            for path in [path for path in texts if path not in (readme or ())]:
                option = "--out" if path == out else "--pages"
                require_replaceable(option, path, *MADE.values())
            draw_figures(root, pages)
        for path in old:
            path.unlink()
            typer.echo(f"removed {path}, which is of no table any more")
        for path, text in texts.items():
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            if check:
                fail(f"{path} is not up to date: run `drolt results` without --check")
            write_atomically(path, text)
            typer.echo(f"wrote {path}")


@app.command()
def keep(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    name: Annotated[str | None, typer.Option("--as", help="Name under ROOT; DATASET/NAME/seedN if not given.")] = None,
    root: Root = Path("results"),
    brief: Annotated[
        bool, typer.Option(help="Without single classes, and the last epoch of each stage alone.")
    ] = False,
) -> None:
    """Keep a finished run as one file of less than 200 kB, without weights, where `drolt results` finds it."""
    from drolt_pl.kept import OF_A_RUN, SUFFIX
    from drolt_pl.report.keep import keep_run
    from drolt_pl.results import Results

    with one_sentence():
        if name is None:
            run = Results.load(run_dir / "results.json")
            name = "/".join(escape.file_name(part) for part in (run.dataset, run.label, f"seed{run.seed}"))
        parts = PurePosixPath(name).parts
        dest = root / f"{name}{SUFFIX}"
        if not parts or ".." in parts or parts[0] == "/" or dest.name == OF_A_RUN:
            raise SettingError("--as", f"must name a file under {root}, other than {OF_A_RUN}", name)
        left_out = keep_run(run_dir, dest, brief)
        typer.echo(f"kept {dest}" + (f" (left out: {', '.join(left_out)})" if left_out else ""))


def main() -> None:
    """Entry point of the `drolt` command."""
    settle_surroundings()
    app()
