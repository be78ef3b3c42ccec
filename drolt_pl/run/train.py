"""Takes one run from its configuration to its results: trains it, tests it, and writes its folder."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import seed_everything

from drolt_pl import folders
from drolt_pl.errors import SettingError
from drolt_pl.learning.callbacks import RefreshCentroids
from drolt_pl.learning.diagnostics import Diagnostics
from drolt_pl.lightning_internals import profile_of
from drolt_pl.records import write_atomically
from drolt_pl.report import show
from drolt_pl.report.html import leave_report
from drolt_pl.results import SCHEMA, Groups, Results, Timing, write_per_class
from drolt_pl.run.assemble import TEST_SELECTED, Run, assemble
from drolt_pl.run.build import plain
from drolt_pl.run.checkpoints import CONTENT, newest, require_same_data, saved_split
from drolt_pl.run.choices import removed
from drolt_pl.run.conf import CONF
from drolt_pl.run.measure import Outcome, measure
from drolt_pl.run.mishaps import forget_late_workers
from drolt_pl.run.opening import opening
from drolt_pl.run.outcome import batch_shares, circumstances
from drolt_pl.run.ranks import leave_group_at_exit
from drolt_pl.run.recording import write_of_test
from drolt_pl.run.refusals import naming_keys, taken_back
from drolt_pl.run.stopping import Ending
from drolt_pl.run.thumbnails import leave_tail
from drolt_pl.run.tree import Tree
from drolt_pl.run.validate import validate
from drolt_pl.run.warmstart import warm_checkpoint
from drolt_pl.tracking.wandb_run import log_end

HOME = Path(__file__).resolve().parents[2]
HELD = {"test": "test", "test_pool": "pool"}  # sets of images by their part of the split


def train(config: DictConfig, run_dir: Path) -> Results:
    """Assembles a run, trains its stages, tests it, writes its folder and returns its results.

    Raises:
        Stopped: a signal told the run to stop; it says how to go on.
    """
    ending = Ending(run_dir)
    with ending.watching():
        return _train(prepared(config, run_dir, ending))


def _train(run: Run) -> Results:
    config, run_dir = run.config, run.folder
    record, before = run.datamodule.split_record(), set(run_dir.iterdir())
    changed = None
    if config.resume is not None:
        changed = require_same_data(f"resume={config.resume}", run_dir, record)
        record["sha256_content"] = saved_split(run_dir, CONTENT) or record["sha256_content"]  # of its begin
    start, images_before = _start(run, record["sha256"])
    if run.trainer.is_global_zero:
        write_atomically(run_dir / "split.json", json.dumps(record))
        print(*opening(run, Tree(config), _overrides(run_dir)), sep="\n", flush=True)
    for logger in run.trainer.loggers:
        logger.log_hyperparams(plain(config))
    with taken_back(run, before, images_before), naming_keys(run.module):
        run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=start, weights_only=True)
    if not run.saved.has_ended():
        raise SettingError(
            "trainer",
            f"ended training in epoch {run.trainer.current_epoch} of {run.module.schedule.epochs}, so nothing is "
            f"measured; set to null what stopped it (such as trainer.max_time=null), and go on with resume={run_dir}",
        )
    with naming_keys(run.module):
        results = results_of(run, measure(run), record, images_before, changed)
    diagnostics = next((part for part in run.callbacks.values() if isinstance(part, Diagnostics)), None)
    confusion = None if diagnostics is None else diagnostics.confusion
    if run.trainer.is_global_zero:
        if diagnostics is not None:
            write_of_test(run_dir, run.datamodule.class_names, confusion, diagnostics.calibration)
        results.write(run_dir / "results.json")
        write_per_class(run_dir / "per_class.csv", results, run.datamodule.class_names)
        show(results, run_dir)
        if config.get("report", True):
            leave_tail(run_dir, run.datamodule, results, confusion)
            leave_report(run_dir)
        print(profile_of(run.trainer), end="", flush=True)
    log_end(run.trainer, results, run.datamodule.class_names, confusion)
    return results


def prepared(config: DictConfig, run_dir: Path, ending: Ending | None = None) -> Run:
    """A run that is ready to be trained, once its configuration has been found to be right.

    Args:
        config: The composed configuration.
        run_dir: The run's folder.
        ending: Ends the run before its time; null for a run that nothing stops.

    Raises:
        SettingError: it is not; of several wrong values, all are named.
    """
    validate(config, CONF, removed(folders.overrides(run_dir) or []))
    prepare_process(config)
    tree = Tree(config)  # as it was typed: Hydra resolves what it instantiates in place
    try:
        return assemble(config, run_dir, CONF, ending)
    except SettingError as error:
        raise error.renamed(tree.name) from error


def prepare_process(config: DictConfig) -> None:
    """Sets threads, seeds, warning filters and the end of the process; the warnings it silences cannot be acted on."""
    leave_group_at_exit()
    forget_late_workers()
    # ResNet-32 becomes four times slower within ten epochs on CPUs where tiny activations stay denormal.
    torch.set_flush_denormal(True)
    # Lightning walks its batches with a check that torch deprecates.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    # The values that ranks log are reduced already, or equal on all of them.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # the progress bar says the rest
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    seed_everything(config.seed, verbose=False)


def results_of(
    run: Run, outcome: Outcome, record: Mapping[str, Any], images_before: int, changed: str | None
) -> Results:
    """The results of a run.

    Args:
        run: The run, measured.
        outcome: The measurements.
        record: The record of the split.
        images_before: Images that the run of `init_from` had seen.
        changed: What has changed of the images since the run began.
    """
    config, module = run.config, run.module
    passes = sum(part.seconds for part in run.callbacks.values() if isinstance(part, RefreshCentroids))
    seconds = run.saved.seconds
    measures = any(stage.uses_centroids for stage in module.schedule.trained)
    loss = module.loss if measures else None
    learned = loss is not None and config.loss.eps_mode == "learned"
    words = _overrides(run.folder)
    told = (TEST_SELECTED if config.protocol == "test_selected" else None, changed)
    return Results(
        schema_=SCHEMA,
        name=config.name,
        dataset=record["dataset"],
        method=config.method_name,
        protocol=config.protocol,
        seed=config.seed,
        split_seed=record["split_seed"],
        split_sha256=record["sha256"],
        class_counts=run.datamodule.class_counts,
        groups=Groups(many=config.groups.many, few=config.groups.few),
        num_parameters=sum(p.numel() for part in (module.backbone, module.classifier) for p in part.parameters()),
        images_seen=module.images_seen,
        batch=batch_shares(run.datamodule, module, run.trainer),
        chosen=module.classifier.chosen,
        selection=outcome.selection,
        objective=outcome.objective,
        stages=outcome.stages,
        last_epochs={stage.name: module.schedule.last_epoch(stage.name) for stage in module.schedule.trained},
        test=outcome.test,
        test_pool=outcome.test_pool,
        val=outcome.val,
        images={name: record["held_counts"][part] for name, part in HELD.items()},
        skipped_files=outcome.skipped_files,
        eps=loss.radii().tolist() if loss is not None else None,
        eps_updates=loss.updates.tolist() if learned and loss is not None else None,
        warning="; ".join(filter(None, told)) or None,
        timing=Timing(
            train_s=seconds,
            taken_s=run.saved.taken,
            centroid_s=passes,
            images_per_s=(module.images_seen - images_before) / max(seconds, 1e-9),
        ),
        overrides=words,
        speed=run.speed.taken,
        **circumstances(["python", "train.py", *words], run.trainer.strategy.root_device, HOME),
    )


def _overrides(run_dir: Path) -> list[str]:
    """The overrides that began the run; a damaged file of them costs no trained run its results."""
    try:
        return folders.overrides(run_dir) or []
    except SettingError as error:
        print(f"warning: {error}; results.json does not have the overrides", flush=True)
        return []


def _start(run: Run, split_sha256: str) -> tuple[Path | None, int]:
    """The checkpoint that training goes on from, null for none, and the images that the run of `init_from` had seen."""
    config = run.config
    last = _last_checkpoint(run)
    if last is not None or config.init_from is None:
        return last, 0
    stage, warm = warm_checkpoint(config.init_from, run.module, split_sha256)
    path = run.saved.dirpath / f"{stage}_init.ckpt"
    run.files.save_checkpoint(warm, path)
    return path, warm["drolt_pl"]["images_seen"]


def _last_checkpoint(run: Run) -> Path | None:
    """The checkpoint that `resume` goes on from; null where there is none yet."""
    if run.config.resume is None:
        return None
    found = newest(run.folder, run.module.schedule, run.files)
    if found.path is None and run.config.backbone.get("weights") and any(run.saved.dirpath.glob("*.ckpt")):
        demand = "has pretrained weights and no whole checkpoint to go on from"
        raise SettingError(f"resume={run.config.resume}", demand, remedy="remove its checkpoints, and it starts again")
    if run.trainer.is_global_zero:
        print(found.sentence, flush=True)
    run.module.schedule.ended = dict(found.ended)
    run.trainer.fit_loop.max_epochs = run.module.schedule.epochs
    return found.path
