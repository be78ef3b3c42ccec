"""The validation images of a model's run, which calibrate it before class frequencies are estimated."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drolt_pl.errors import SettingError

if TYPE_CHECKING:
    from drolt_pl.model import Model
    from drolt_pl.predict.files import Pace
    from drolt_pl.predict.labelled import Outputs


def own_validation(model: "Model", source: Path, pace: "Pace", trust: bool) -> "Outputs | None":
    """What a model gives for the validation images of its run; None, and a line that says why, where there are none.

    Args:
        model: The model.
        source: What it was loaded from.
        pace: How images are read.
        trust: Whether the run's files may name classes of the user's own.
    """
    try:
        if not source.is_dir():
            raise SettingError("MODEL", "is no run's folder", str(source))
        # Imported here: a model works where Hydra and Lightning are missing.
        from drolt_pl.predict.labelled import outputs_of_batches
        from drolt_pl.run.labelled import validation_images

        images = validation_images(source, trust=trust)
        if images is None:
            raise SettingError("MODEL", "is a run without validation images", str(source))
    except (SettingError, ImportError) as error:
        reason = " ".join(str(error).split())
        print(f"estimate: the model's own probabilities are taken, not calibrated ones ({reason})", file=sys.stderr)
        return None
    return outputs_of_batches(model, images, pace, lambda done, total: None)
