"""One run from its configuration to its results: trained, tested, written down."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from drolt_pl.run.assemble import TEST_SELECTED, assemble
from drolt_pl.run.build import UserError, checked
from drolt_pl.run.conf import CONF

HOME = Path(__file__).resolve().parents[2]


def train(config: DictConfig, run_dir: Path) -> float | None:
    """Assembles a run, trains its stages, tests it and writes its folder; returns the validation objective."""
    import json
    import logging
    import warnings

    import torch
    from pytorch_lightning import seed_everything

    from drolt_pl.data.images.sources import ImageError
    from drolt_pl.learning.callbacks import RanksDifferError
    from drolt_pl.learning.module import NonFiniteLossError
    from drolt_pl.report import show, write_per_class, write_results
    from drolt_pl.results import SCHEMA, write_atomically
    from drolt_pl.run.outcome import batch_shares, circumstances, measure
    from drolt_pl.run.recording import StageCheckpoint
    from drolt_pl.run.warmstart import warm_checkpoint
    from drolt_pl.tracking.wandb_run import log_end

    # ResNet-32 becomes four times slower within ten epochs on CPUs where tiny activations stay denormal.
    torch.set_flush_denormal(True)
    # Lightning walks its batches with a check that torch deprecates; nothing a user could mend.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    # What the ranks log is reduced already, or equal on all of them.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # the progress bar says the rest
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    seed_everything(config.seed, verbose=False)
    datamodule, module, trainer = assemble(config, run_dir, CONF)
    checkpoints = run_dir / "checkpoints"
    record = datamodule.split_record()
    continued = _last_checkpoint(config, run_dir, record["sha256"])
    images_before = 0
    if continued is None and config.init_from is not None:
        stage, warm = checked("", lambda: warm_checkpoint(config.init_from, module, record["sha256"]))
        continued, images_before = checkpoints / f"{stage}_init.ckpt", warm["drolt_pl"]["images_seen"]
        checkpoints.mkdir(parents=True, exist_ok=True)
        torch.save(warm, continued)
    if trainer.is_global_zero:
        write_atomically(run_dir / "split.json", json.dumps(record))
    for logger in trainer.loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=continued, weights_only=True)
    except (RanksDifferError, ImageError, NonFiniteLossError) as error:
        raise UserError(str(error)) from error

    saved = next(callback for callback in trainer.callbacks if isinstance(callback, StageCheckpoint))
    if not saved.name_result(trainer):
        raise UserError(
            f"trainer: training ended in epoch {trainer.current_epoch} of {module.schedule.epochs}, so nothing is "
            f"measured; take away what stopped it, and go on with resume={run_dir}"
        )
    centroids = next((c for c in trainer.callbacks if hasattr(c, "refresh")), None)
    timing = {"train_s": saved.seconds, "centroid_s": getattr(centroids, "seconds", 0.0)}
    timing["images_per_s"] = (module.images_seen - images_before) / max(saved.seconds, 1e-9)
    last = next(stage for stage in reversed(module.schedule.stages) if stage.epochs)
    measures = any(stage.uses_centroids for stage in module.schedule.stages)
    selects = config.protocol != "published" and last.name in saved.best
    best = saved.best.get(last.name, {})
    try:
        measured = measure(trainer, module, datamodule, checkpoints, selects=selects)
    except ImageError as error:
        raise UserError(str(error)) from error
    results = {
        "schema": SCHEMA,
        "name": config.name,
        "dataset": record["dataset"],
        "method": config.method_name,
        "protocol": config.protocol,
        "seed": config.seed,
        "split_seed": record["split_seed"],
        "split_sha256": record["sha256"],
        "class_counts": datamodule.class_counts,
        "groups": {"many": config.groups.many, "few": config.groups.few},
        "num_parameters": sum(p.numel() for part in (module.backbone, module.classifier) for p in part.parameters()),
        "images_seen": module.images_seen,
        "batch": batch_shares(datamodule, module, trainer),
        "chosen": getattr(module.classifier, "chosen", {}),
        "selection": {
            "metric": last.monitor if selects else None,
            "stage": last.name,
            "epoch": best.get("epoch") if selects else module.schedule.epochs - 1,
            "n_candidates": best.get("candidates", 0) if selects else 1,
        },
        "objective": best.get("score"),
        **measured,
        "eps": module.loss.radii().tolist() if measures else None,
        "eps_updates": module.loss.updates.tolist() if config.loss.eps_mode == "learned" else None,
        "warning": TEST_SELECTED if config.protocol == "test_selected" else None,
        "timing": timing,
        "overrides": _overrides(run_dir),
        **circumstances(["python", "train.py", *_overrides(run_dir)], module.device, HOME),
    }
    if trainer.is_global_zero:
        write_results(run_dir / "results.json", results)
        write_per_class(run_dir / "per_class.csv", results, datamodule.class_names)
        show(results, run_dir)
    log_end(trainer, results, datamodule.class_names)
    objective: float | None = results["objective"]
    return objective


def _last_checkpoint(config: DictConfig, run_dir: Path, split_sha256: str) -> Path | None:
    """The checkpoint that `resume` goes on from; none where there is none yet."""
    import json

    if config.resume is None:
        return None
    split = run_dir / "split.json"
    if split.exists() and json.loads(split.read_text())["sha256"] != split_sha256:
        raise UserError(
            f"resume={config.resume}: the data set has changed since this run began; restore it, or start a new run"
        )
    last = run_dir / "checkpoints" / "last.ckpt"
    return last if last.exists() else None


def _overrides(run_dir: Path) -> list[str]:
    """The overrides that began the run."""
    path = run_dir / ".hydra" / "overrides.yaml"
    return [str(value) for value in OmegaConf.load(path)] if path.exists() else []
