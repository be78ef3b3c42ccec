"""A run takes possession of its folder: nobody else writes there, no other run is there, its configuration is kept."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from drolt_pl.disk import remove_partial
from drolt_pl.errors import SettingError
from drolt_pl.folders import CONFIG
from drolt_pl.records import write_atomically
from drolt_pl.run import ranks
from drolt_pl.run.explain import USER_ERRORS
from drolt_pl.run.leftovers import is_begun, remove_leftovers
from drolt_pl.run.lock import locked

NOT_BY_HYDRA = "hydra.output_subdir=null"  # what a command tells Hydra


@contextmanager
def occupied(run_dir: Path, config: DictConfig, hydra: DictConfig) -> Iterator[None]:
    """Holds the folder of a run, in its first process, and writes its configuration there, as Hydra would.

    The folder is the one that was composed, whatever its spelling was. Hydra itself must write nothing there
    (`NOT_BY_HYDRA`): it would do so before anyone could look. A run that is refused leaves nothing behind.

    Args:
        run_dir: The folder, resolved.
        config: The composed configuration.
        hydra: Hydra's own, as the node `hydra`.

    Raises:
        SettingError: another process writes there, the folder holds another run, or `resume` names another folder.
    """
    with ExitStack() as stack:

        def begin() -> str:
            stack.enter_context(locked(run_dir))
            _begin(run_dir, config, hydra)
            return ""

        met = ranks.meeting()
        if met is not None:
            met.decided("occupied", begin, decides=met.rank == 0)
        elif ranks.is_first():
            begin()
        try:
            yield
        except USER_ERRORS:
            if config.get("resume") is None and ranks.is_first():
                remove_leftovers(run_dir)
            raise


def _begin(run_dir: Path, config: DictConfig, hydra: DictConfig) -> None:
    resume = config.get("resume")
    if resume is None and is_begun(run_dir):
        demand = f"is {run_dir}, which holds a run already"
        raise SettingError("hydra.run.dir", demand, remedy=f"go on with it by resume={run_dir}, or name another folder")
    if resume is not None and Path(os.path.realpath(str(resume))) != run_dir:
        raise SettingError("resume", "must stand on the command line, as resume=FOLDER", str(resume))
    for folder in (run_dir, run_dir / "checkpoints"):
        remove_partial(folder)
    saved = (run_dir / CONFIG).parent
    folder = saved if resume is None else saved / f"resume_{len(list(saved.glob('resume_*')))}"
    # The configuration last: who finds it finds the others.
    for name, part in {"hydra": hydra, "overrides": hydra.hydra.overrides.task, "config": config}.items():
        write_atomically(folder / f"{name}.yaml", OmegaConf.to_yaml(part))
