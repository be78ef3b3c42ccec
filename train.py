"""Trains one run, `python train.py [group=choice] [key=value]`, or with -m a sweep; conf/ lists what can be set."""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from drolt_pl.cli import ranks
from drolt_pl.cli.launch import UserError, build, checked, main, start

HOME = Path(__file__).resolve().parent
TEST_SELECTED = "protocol=test_selected chooses epochs on the test set: its accuracies are optimistic"


@hydra.main(version_base="1.3", config_path=str(HOME / "conf"), config_name="config")
def task(config: DictConfig) -> float | None:
    return start(config, train, HOME / "train.py")


def train(config: DictConfig, run_dir: Path) -> float | None:
    """Assembles a run, trains its stages, tests it and writes its folder; returns the validation objective."""
    import json
    import logging
    import warnings

    import torch
    from pytorch_lightning import seed_everything

    from drolt_pl.callbacks import RanksDifferError
    from drolt_pl.outcome import batch_shares, circumstances, measure
    from drolt_pl.recording import StageCheckpoint
    from drolt_pl.report import show, write_per_class, write_results
    from drolt_pl.report.records import SCHEMA
    from drolt_pl.tracking import log_end
    from drolt_pl.warmstart import warm_checkpoint

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
    datamodule, module, trainer = assemble(config, run_dir)
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
        (run_dir / "split.json").write_text(json.dumps(record))
    for logger in trainer.loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=continued, weights_only=True)
    except RanksDifferError as error:
        raise UserError(str(error)) from error

    saved = next(callback for callback in trainer.callbacks if isinstance(callback, StageCheckpoint))
    centroids = next((c for c in trainer.callbacks if hasattr(c, "refresh")), None)
    timing = {"train_s": saved.seconds, "centroid_s": getattr(centroids, "seconds", 0.0)}
    timing["images_per_s"] = (module.images_seen - images_before) / max(saved.seconds, 1e-9)
    last = next(stage for stage in reversed(module.schedule.stages) if stage.epochs)
    measures = any(stage.uses_centroids for stage in module.schedule.stages)
    selects = config.protocol != "published" and last.name in saved.best
    best = saved.best.get(last.name, {})
    measured = measure(trainer, module, datamodule, checkpoints, selects=selects)
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


def assemble(config: DictConfig, run_dir: Path) -> tuple[Any, Any, Any]:
    """Builds data module, Lightning module and trainer from the configuration."""
    from pytorch_lightning.strategies import DDPStrategy

    from drolt_pl.callbacks import SameOnAllRanks
    from drolt_pl.module import DROLTModule
    from drolt_pl.outcome import batch_sentence
    from drolt_pl.recording import MetricsFile, StageCheckpoint, StageProgressBar
    from drolt_pl.schedule import Schedule

    known: Any = OmegaConf.to_container(config.schedule, resolve=True)
    kinds: dict[str, Any] = {name: get_class(spec["_target_"]) for name, spec in config.objectives.items()}
    uses = {name: kind.uses_centroids for name, kind in kinds.items()}
    schedule = checked("schedule", lambda: Schedule(known["stages"], known.get("order"), uses))
    if config.trainer.max_epochs is not None:
        raise UserError(
            f"trainer.max_epochs={config.trainer.max_epochs} is refused: it is the schedule's sum; set "
            "schedule.stages.<stage>.epochs"
        )
    if config.protocol == "published" and any(stage.start_from == "best" for stage in schedule.stages):
        raise UserError("schedule.stages.*.start_from=best needs a validation set, which protocol=published has not")
    datamodule = build(config, "dataset")
    ranks.once_a_node("data", lambda: checked("dataset", datamodule.prepare_data))
    checked("dataset", lambda: datamodule.setup("fit"))
    datamodule.plan, datamodule.mixings = schedule.stage_at, _mixings(config, schedule)
    if config.protocol == "test_selected":
        print(f"warning: {TEST_SELECTED}", flush=True)

    num_classes, channels = datamodule.num_classes, datamodule.in_channels
    backbone = build(config, "backbone", in_channels=channels)
    if config.compile is not None:
        checked("compile", lambda: backbone.compile(mode=config.compile))
    sizes = {"num_features": backbone.num_features, "num_classes": num_classes}
    specs = {name: spec | sizes for name, spec in _classifier_specs(config, schedule).items()}
    recipe = {
        "backbone": {**OmegaConf.to_container(config.backbone, resolve=True), "in_channels": channels},  # type: ignore[dict-item]
        "classifiers": specs,
        "class_names": list(datamodule.class_names),
    }
    classifiers = {name: build(OmegaConf.create({"classifier": spec}), "classifier") for name, spec in specs.items()}
    facts = {"class_counts": datamodule.class_counts, **sizes}
    loss = build(config, "loss", **facts)
    checkpoints = run_dir / "checkpoints"
    module = checked(
        "",
        lambda: DROLTModule(
            backbone,
            classifiers,
            loss=loss,
            objectives=_objectives(config, schedule, facts),
            schedule=schedule,
            optimizer=build(config, "optimizer"),
            class_counts=datamodule.class_counts,
            centroids=config.centroids,
            many=config.groups.many,
            few=config.groups.few,
            seed=config.seed,
            recipe=recipe,
            checkpoint_dir=checkpoints,
        ),
    )
    strategy = config.trainer.strategy
    if strategy == "ddp":
        if ranks.is_first():
            print("trainer.strategy=ddp: built with find_unused_parameters=True, since stages leave parameters out")
        strategy = DDPStrategy(find_unused_parameters=True)
    configuration: Any = OmegaConf.to_container(config, resolve=True)
    callbacks: list[Any] = [SameOnAllRanks(configuration, datamodule.split_record()["sha256"])]
    callbacks += [*build(config, "callbacks").values(), MetricsFile(run_dir / "metrics.csv")]
    callbacks += [StageCheckpoint(checkpoints, schedule)]
    if config.trainer.enable_progress_bar:
        callbacks.append(StageProgressBar())
    trainer = build(
        config,
        "trainer",
        strategy=strategy,
        max_epochs=schedule.epochs,
        callbacks=callbacks,
        logger=list(build(config, "logger").values()) or False,
        default_root_dir=str(run_dir),
        # Our loaders slice for the ranks themselves, and are built anew from the epoch's number.
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **({} if len(datamodule.split.val) else {"limit_val_batches": 0}),
    )
    checked("trainer", lambda: ranks.require_all_used(trainer.num_devices, trainer.num_nodes))
    if trainer.world_size > 1 and trainer.is_global_zero:
        print(batch_sentence(datamodule, module, trainer))
    return datamodule, module, trainer


def _objectives(config: DictConfig, schedule: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """What the stages minimise, each with its own criterion, or the run's."""
    objectives = {}
    for name in dict.fromkeys(stage.objective for stage in schedule.stages):
        own = f"objectives.{name}.criterion"
        key = "criterion" if OmegaConf.select(config, own) is None else own
        criterion = build(config, key, class_counts=facts["class_counts"])
        objectives[name] = build(config, f"objectives.{name}", criterion=criterion, **facts)
    return objectives


def _mixings(config: DictConfig, schedule: Any) -> dict[str, Any]:
    """What mixes the batches of stages, by name."""
    mixings = {}
    for stage in (stage for stage in schedule.stages if stage.mixing is not None):
        if stage.mixing not in config.mixing:
            key = f"schedule.stages.{stage.name}.mixing"
            raise UserError(f"{key} must be null or one of {sorted(config.mixing)}, got {stage.mixing!r}")
        if stage.uses_centroids and config.centroids != "epoch":
            raise UserError(
                f"schedule.stages.{stage.name}.mixing={stage.mixing} needs centroids=epoch: those of a batch would be "
                "means of mixed images"
            )
        mixings[stage.mixing] = build(config, f"mixing.{stage.mixing}")
    return mixings


def _classifier_specs(config: DictConfig, schedule: Any) -> dict[str, dict[str, Any]]:
    """Constructor arguments of each stage's own classifier: the base one, or the file of its name."""
    base: Any = OmegaConf.to_container(config.classifier, resolve=True)
    specs = {}
    for stage in schedule.stages:
        arguments = stage.classifier_args or {}
        if stage.classifier in ("keep", "reset"):
            specs[stage.name] = base | arguments
            continue
        path = HOME / "conf" / "classifier" / f"{stage.classifier}.yaml"
        if not path.exists():
            allowed = ["keep", "reset", *sorted(file.stem for file in path.parent.glob("*.yaml"))]
            raise UserError(
                f"schedule.stages.{stage.name}.classifier must be one of {allowed}, got {stage.classifier!r}"
            )
        specs[stage.name] = {**OmegaConf.load(path), **arguments}  # type: ignore[dict-item]
    return {name: spec for name, spec in specs.items() if schedule.classifier_of(name) == name}


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


if __name__ == "__main__":
    sys.exit(main(task, HOME / "conf"))
