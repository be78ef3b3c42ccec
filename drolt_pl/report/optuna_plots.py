"""Optuna's own plots of a study, as SVG for the page of a sweep."""

import base64
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drolt_pl import folders

MOST_TRIALS = 2000  # reading a longer study takes longer than the rest of the page


Plot = Callable[..., Any]


def optuna_pictures(sweep_dir: Path) -> dict[str, str]:
    """Base64 of the SVG of each plot by its title; none without a study, and none that Optuna cannot draw."""
    journal = sweep_dir / folders.STUDY
    if not journal.is_file():
        return {}
    try:
        import optuna
    except ImportError:  # an optional package
        return {}
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.visualization import matplotlib as plots

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(journal))))
    finished = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not 1 < len(finished) <= MOST_TRIALS:
        return {}
    drawn: dict[str, Plot] = {
        "Optuna: history of the objective": plots.plot_optimization_history,
        "Optuna: importance of the keys": plots.plot_param_importances,
        "Optuna: objective by key": plots.plot_slice,
    }
    found = {}
    for title, plot in drawn.items():
        picture = _drawn(plot, study)
        if picture is not None:
            found[title] = picture
    return found


def _drawn(plot: Plot, study: object) -> str | None:
    import matplotlib
    from matplotlib import pyplot

    before = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these plots experimental
            axes = plot(study)
            figure = np.ravel(np.asarray(axes))[0].figure
            file = io.BytesIO()
            figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    except (ValueError, RuntimeError, ZeroDivisionError, ImportError):  # too few trials, or one value of every key
        return None
    finally:
        pyplot.close("all")
        pyplot.switch_backend(before)
    return base64.b64encode(file.getvalue()).decode()
