"""What is refused while a run trains or is measured: its key, and what becomes of the run's folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from drolt_pl.data.images.files import ImageError, UnreadableError
from drolt_pl.errors import SettingError
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.schedule import Stage
from drolt_pl.run.assemble import Run


@contextmanager
def taken_back(run: Run, before: set[Path], images_before: int) -> Iterator[None]:
    """What is refused before the first step has ended leaves nothing of a new run, so that its folder is free again.

    Args:
        run: The run.
        before: What stood in its folder.
        images_before: Images that the run of `init_from` had seen.
    """
    try:
        yield
    except SettingError:
        untrained = run.module.images_seen in (0, images_before)
        if untrained and run.config.get("resume") is None and run.trainer.is_global_zero:
            for path in set(run.folder.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


@contextmanager
def naming_keys(module: DROLTModule) -> Iterator[None]:
    """What an objective refuses of the stage that is trained, and an image, gets the key that a user would type."""
    try:
        yield
    except ImageError as error:
        skip = ", or train with dataset.on_corrupt=skip" if isinstance(error, UnreadableError) else ""
        raise SettingError(f"dataset.{error.name}", error.demand, *error.value, remedy=error.remedy + skip) from error
    except SettingError as error:
        if error.name not in {field.name for field in fields(Stage)}:
            raise
        raise error.under(f"schedule.stages.{module.stage.name}") from error
