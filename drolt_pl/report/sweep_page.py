"""The page of a sweep, sweep.md, and the table that `drolt sweep` prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from drolt_pl import escape
from drolt_pl.records import write_atomically
from drolt_pl.report.page import template
from drolt_pl.report.sweep import Sweep, expected_best, rows
from drolt_pl.report.sweep_jobs import Failure, SweepJob
from drolt_pl.report.tables import percent

TRIES = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 75, 100, 150, 200)


def write_page(sweep: Sweep, out: str | Path, figures: Sequence[Path], title: str) -> Path:
    """Writes sweep.md; it shows the figures of the same folder.

    Returns:
        The file.
    """
    table = rows(sweep)
    curves = expected_best(sweep)
    ks = [k for k in TRIES if k <= max((len(curve) for curve in curves.values()), default=0)]
    text = template("sweep.md.j2").render(
        title=escape.markdown(title),
        about=escape.markdown(_about(sweep)),
        command=None if sweep.command is None else escape.block(sweep.command),
        is_number=[column not in sweep.keys for column in table[0]],
        progress=sweep.progress,
        seeds=max(len(setting.jobs) for setting in sweep.settings),
        columns=[escape.markdown(column) for column in table[0]],
        rows=[[escape.markdown(value) for value in row.values()] for row in table],
        failures=[_failure(job, job.failure) for job in sweep.jobs if job.failure is not None],
        ks=ks,
        expected=[
            [
                escape.markdown(f"{name} {part}".strip()),
                *(percent(curve[k - 1][i]) if k <= len(curve) else "-" for k in ks),
            ]
            for name, curve in curves.items()
            for i, part in enumerate((f"val {sweep.metric}", "test acc"))
        ],
        figures=[figure.name for figure in figures],
    )
    path = Path(out) / "sweep.md"
    write_atomically(path, text)
    return path


def sweep_table(sweep: Sweep, top: int) -> Table:
    """The best settings as a table for the terminal."""
    found = rows(sweep)
    table = Table(title=f"{sweep.progress}; accuracies in %", title_justify="left")
    for column in found[0]:
        is_key = column in sweep.keys
        name = escape.markup(column.rpartition(".")[2] if is_key else column)
        table.add_column(name, justify="left" if is_key else "right")
    for row in found[:top]:
        table.add_row(*map(escape.markup, row.values()))
    return table


def _about(sweep: Sweep) -> str:
    finished = [job.results for job in sweep.jobs if job.results]
    if not finished:
        return "No job has finished yet."
    first = finished[0]
    hours = sum(results.timing.train_s or 0.0 for results in finished) / 3600
    return (
        f"{first.dataset}, protocol {first.protocol}; {hours:.1f} hours of training in all, each job on "
        f"{first.hardware or 'hardware that was not recorded'}."
    )


def _failure(job: SweepJob, failure: Failure) -> dict[str, object]:
    last = next((line for line in reversed(failure.last_lines) if line.strip()), "")
    return {
        "name": escape.markdown(job.name),
        "overrides": escape.code(" ".join(job.overrides)),
        "exit_code": failure.exit_code,
        "last_line": escape.code(last.strip()),
    }
