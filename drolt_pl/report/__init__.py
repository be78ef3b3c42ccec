"""Reports about runs: the table at the end of a run, RESULTS.md, the tables of README.md, and the pages of sweeps."""

from drolt_pl.report.keep import keep_run
from drolt_pl.report.page import render_readme, render_results
from drolt_pl.report.tables import show, stage_table

__all__ = ["keep_run", "render_readme", "render_results", "show", "stage_table"]
