"""What is written of a run and about runs: results.json, per_class.csv, the table at the end, RESULTS.md."""

from drolt_pl.report.keep import keep_run
from drolt_pl.report.page import render_readme, render_results
from drolt_pl.report.tables import show, stage_table
from drolt_pl.results import load_results, write_per_class, write_results

__all__ = [
    "keep_run",
    "load_results",
    "render_readme",
    "render_results",
    "show",
    "stage_table",
    "write_per_class",
    "write_results",
]
