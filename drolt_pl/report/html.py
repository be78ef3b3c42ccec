"""`report.html`: one page about a run, a sweep or several of them, which needs no network and no other file."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from altair.utils import schemapi

from drolt_pl import escape, folders
from drolt_pl.disk import write_whole
from drolt_pl.report import charts, matrices
from drolt_pl.report.optuna_plots import optuna_pictures
from drolt_pl.report.page import template
from drolt_pl.report.run_view import run_view
from drolt_pl.report.sweep import load_sweep
from drolt_pl.report.sweep import rows as sweep_rows
from drolt_pl.report.sweep_jobs import Failure, SweepJob

NAME = "report.html"


@schemapi.debug_mode(False)  # a chart is checked by the tests, not in each of a sweep's jobs
def write_report(sources: Sequence[Path], out: Path) -> Path:
    """Writes the page of runs and sweeps.

    Args:
        sources: Folders of runs and sweeps.
        out: The file.

    Raises:
        SettingError: a folder is neither, or a file in it cannot be read.
    """
    runs, sweeps = [], []
    for source in sources:
        if (source / folders.SWEEP).exists() or (source / folders.JOBS).exists():
            sweeps.append(_sweep(source))
        else:
            runs.append(run_view(source))
    together = _together(sources, runs) if len(runs) > 1 else None
    names = [part["title"] for part in (*runs, *sweeps)]
    page = template("report.html.j2").render(
        title=" · ".join(names[:3]), runs=runs, sweeps=sweeps, together=together, script=javascript()
    )
    write_whole(out, page.encode())
    return out


def leave_report(folder: Path) -> None:
    """Writes the page of a run or a sweep into its folder; whatever goes wrong there, the results stand."""
    try:
        print(f"report: {write_report([folder], folder / NAME)}", flush=True)
    except Exception as error:
        print(f"warning: {NAME} could not be written ({type(error).__name__}: {error})", flush=True)


def _sweep(folder: Path) -> dict[str, Any]:
    sweep = load_sweep(folder)
    table = sweep_rows(sweep)
    points = []
    for setting in sweep.settings:
        val, test = setting.mean("val", sweep.metric), setting.mean("test", "acc")
        if val is not None and test is not None:
            label = ", ".join(f"{key}={value}" for key, value in setting.values.items()) or "one setting"
            points.append({"label": escape.plain(label), "val": 100 * val, "test": 100 * test})
    spec = charts.settings(points)
    first = {} if spec is None else {"Settings: validation against test": spec}
    return {
        "title": escape.plain(f"Sweep {folder.name}"),
        "progress": sweep.progress,
        "command": None if sweep.command is None else escape.plain(sweep.command),
        "columns": [escape.plain(column) for column in table[0]] if table else [],
        "rows": [[escape.plain(str(value)) for value in row.values()] for row in table],
        "failures": [_failed(job, job.failure) for job in sweep.jobs if job.failure is not None],
        "charts": {name: charts.embedded(chart) for name, chart in (first | matrices.heat_maps(sweep)).items()},
        "pictures": optuna_pictures(folder),
    }


def _failed(job: SweepJob, failure: Failure) -> dict[str, object]:
    last = next((line for line in reversed(failure.last_lines) if line.strip()), "")
    return {"name": escape.plain(job.name), "exit_code": failure.exit_code, "last_line": escape.plain(last.strip())}


def _together(sources: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several runs beside each other, and where their configurations differ."""
    labels = [f"{place}. {run['title']}" for place, run in enumerate(runs, start=1)]
    spec = charts.by_group(dict(zip(labels, (run["results"] for run in runs), strict=True)))
    configs = [folders.config(run["folder"]) for run in runs]
    rows = [[escape.plain(text) for text in (key, *values)] for key, values in _differing(configs)]
    return {"charts": {"Test accuracy by group": charts.embedded(spec)}, "labels": labels, "differences": rows}


def _differing(values: Sequence[object], key: str = "") -> Iterator[tuple[str, list[str]]]:
    """The keys whose values differ, with the values; a mapping that a run has not is one key."""
    mappings = [value for value in values if isinstance(value, Mapping)]
    if len(mappings) == len(values):
        for name in sorted(set().union(*mappings)):
            yield from _differing([value.get(name, "-") for value in mappings], f"{key}.{name}".lstrip("."))
    elif any(value != values[0] for value in values):
        yield key, [f"{len(value)} keys" if isinstance(value, Mapping) else str(value) for value in values]


@functools.cache
def javascript() -> str:
    """Vega-Lite's JavaScript; making it takes seconds, so it is kept in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(home) / "drolt_pl" / f"vega-{metadata.version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    with suppress(OSError):
        write_whole(kept, text.encode())
    return text
