"""Starts a run after a stage that another run has trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drolt_pl import checkpoint_file
from drolt_pl.checked import problems
from drolt_pl.checkpoint_file import HEADER
from drolt_pl.errors import SettingError
from drolt_pl.learning.module import DROLTModule
from drolt_pl.lightning_internals import set_epoch
from drolt_pl.ranges import StageName
from drolt_pl.run.checkpoints import saved_split
from drolt_pl.run.recording import StageCheckpoint


def split_source(init_from: str, first_stage: str) -> tuple[Path, str]:
    """Splits `<run dir>[:stage]` into folder and stage; the stage is the schedule's first one by default."""
    folder, _, stage = ("", "", init_from) if Path(init_from).is_dir() else init_from.rpartition(":")
    return (Path(folder), stage) if folder else (Path(stage), first_stage)


def warm_checkpoint(init_from: str, module: DROLTModule, split_sha256: str) -> tuple[str, dict[str, Any]]:
    """Makes a checkpoint of `module` at the end of a stage that another run has trained.

    Backbone, centroids, and the classifiers and experts of the stages so far come from that run; radii and optimizer
    start fresh. The other run may have trained the stage for another number of epochs than this schedule has.

    Args:
        init_from: `<run dir>[:stage]`.
        module: This run's `DROLTModule`.
        split_sha256: Hash of this run's split, which must be the other run's.

    Returns:
        The stage's name and the checkpoint, which `Trainer.fit(ckpt_path=...)` continues.

    Raises:
        SettingError: there is no such run or stage, its split is another, or its weights do not fit.
    """
    names = [stage.name for stage in module.schedule.stages]
    folder, theirs = split_source(init_from, names[0])
    path = folder / "checkpoints" / f"{theirs}.ckpt"
    if problems("init_from", theirs, StageName):
        raise SettingError("init_from", "must name a stage behind the folder, as in RUN:ce_warmup", init_from)
    # Methods of one stage call it `train`, others `ce_warmup`: an unknown name stands for our first stage.
    stage = theirs if theirs in names or not path.exists() else names[0]
    if stage not in names[:-1]:
        raise SettingError("init_from", f"must name a stage before the last of the schedule {names}", stage)
    if not path.exists():
        remedy = f"name the folder of a run that has trained stage {theirs}"
        raise SettingError("init_from", f"names {path}, which does not exist", remedy=remedy)
    checkpoint = checkpoint_file.read(path)
    if not isinstance(checkpoint.get(HEADER), Mapping):
        raise SettingError("init_from", f"names {path}, which another program has written: name a run of this one")
    # The checkpoint says it itself; those of earlier versions leave it to the file beside them.
    other_split = checkpoint[HEADER].get("run", {}).get("split") or saved_split(folder) or "unknown"
    if other_split != split_sha256:
        raise SettingError(
            f"init_from={init_from}",
            f"was trained on another split of the data ({other_split[:12]}, here {split_sha256[:12]})",
            remedy="use its dataset, protocol and dataset.split_seed",
        )
    rest = module.schedule.stages[names.index(stage) + 1 :]
    after = next((other.name for other in rest if other.epochs), names[-1])
    if module.schedule.stages[names.index(after)].start_from == "best":
        remedy = f"set schedule.stages.{after}.start_from=last"
        raise SettingError("init_from", "starts from a stage's last epoch", remedy=remedy)
    checkpoint["state_dict"] = _joined(init_from, module, checkpoint, stage, names[: names.index(after)])
    checkpoint["optimizer_states"] = [module.configure_optimizers().state_dict()]
    checkpoint["callbacks"] = StageCheckpoint.taking(checkpoint.get("callbacks") or {})
    checkpoint[HEADER]["ended"] = {}  # of that run's stages
    set_epoch(checkpoint, module.schedule.first_epoch(after))
    return stage, checkpoint


def _joined(
    init_from: str, module: DROLTModule, checkpoint: dict[str, Any], stage: str, names: list[str]
) -> dict[str, Any]:
    """The state of `module` after the stages `names`, with what they trained taken from `checkpoint`."""
    owners = {module.schedule.classifier_of(name) for name in names}
    own, foreign = module.schedule.classifier_of(stage), checkpoint[HEADER]["classifier"]
    renamed = {f"classifiers.{own}.": f"classifiers.{foreign}."}
    before = [module.schedule.named(name).objective for name in names]
    experts = [name for name in before if module.objectives.named(name).experts() is not None]
    parts = (*(f"classifiers.{owner}." for owner in owners), *(f"objectives.{name}." for name in experts))
    kept = ("backbone.", "centroid", "total_variance", "effective_dim", *parts)
    state: dict[str, Any] = module.state_dict()
    for key in [key for key in state if key.startswith(kept)]:
        prefix = next((ours for ours in renamed if key.startswith(ours)), "")
        source = checkpoint["state_dict"].get(renamed.get(prefix, "") + key.removeprefix(prefix))
        if source is None and ".neck." in key:
            continue  # it starts as the identity
        if source is None or source.shape != state[key].shape:
            raise SettingError(f"init_from={init_from}", f"does not fit: {key} is missing or has another shape there")
        state[key] = source
    return state
