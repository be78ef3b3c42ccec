"""Data module, Lightning module and trainer out of a configuration."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from drolt_pl.cli import ranks
from drolt_pl.cli.launch import UserError, build, checked

TEST_SELECTED = "protocol=test_selected chooses epochs on the test set: its accuracies are optimistic"
REFUSED_PRECISIONS = ("16-true", "bf16-true", "64-true", "64", "transformer-engine", "transformer-engine-float16")
# Accuracies of the classifier, and in stages with centroids of the nearest one.
MONITORS = (
    *("val/acc", "val/many", "val/medium", "val/few"),
    *("val/acc_ncm", "val/acc_ncm_cosine", "val/many_ncm", "val/medium_ncm", "val/few_ncm"),
)
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile


def assemble(config: DictConfig, run_dir: Path, conf: Path) -> tuple[Any, Any, Any]:
    """Builds data module, Lightning module and trainer from the configuration.

    Args:
        config: The composed configuration.
        run_dir: The run's folder.
        conf: The folder of configurations, which holds the classifiers that stages name.
    """
    from pytorch_lightning.strategies import DDPStrategy

    from drolt_pl.callbacks import SameOnAllRanks
    from drolt_pl.data.transforms import for_views
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
    if str(config.trainer.precision) in REFUSED_PRECISIONS:
        raise UserError(
            f"trainer.precision={config.trainer.precision} is refused, since centroids and radii are float32: take "
            "32-true, bf16-mixed or 16-mixed"
        )
    _check_names(schedule)
    if config.protocol == "published" and any(stage.start_from == "best" for stage in schedule.stages):
        raise UserError("schedule.stages.*.start_from=best needs a validation set, which protocol=published has not")
    datamodule = build(config, "dataset")
    ranks.once_a_node("data", lambda: checked("dataset", datamodule.prepare_data))
    checked("dataset", lambda: datamodule.setup("fit"))
    datamodule.mixings = _mixings(config, schedule)
    for stage in (stage for stage in schedule.stages if stage.epochs):
        checked(f"schedule.stages.{stage.name}", partial(for_views, datamodule.augment, stage.views))
    if config.protocol == "test_selected":
        print(f"warning: {TEST_SELECTED}", flush=True)

    num_classes, channels = datamodule.num_classes, datamodule.in_channels
    backbone = build(config, "backbone", in_channels=channels)
    if config.compile is not None:
        if config.compile not in COMPILE_MODES:
            raise UserError(f"compile must be null or one of {COMPILE_MODES}, got {config.compile!r}")
        compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(compiler) is None:
            raise UserError(
                f"compile={config.compile} needs a C++ compiler and {compiler} was not found: install it, name another "
                "in the variable CXX, or set compile=null"
            )
        backbone.compile(mode=config.compile)
    sizes = {"num_features": backbone.num_features, "num_classes": num_classes}
    specs = {name: spec | sizes for name, spec in _classifier_specs(config, schedule, conf).items()}
    recipe = {
        "backbone": {**OmegaConf.to_container(config.backbone, resolve=True), "in_channels": channels},  # type: ignore[dict-item]
        "classifiers": specs,
        "class_names": list(datamodule.class_names),
    }
    classifiers = {name: _classifier(name, spec) for name, spec in specs.items()}
    facts = {"class_counts": datamodule.class_counts, **sizes}
    loss, taps = _loss(config, backbone, (channels, datamodule.image_size, datamodule.image_size), facts)
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
            taps=taps,
            recipe=recipe,
            checkpoint_dir=checkpoints,
        ),
    )
    datamodule.plan = module.plan
    _refuse_unfitted(module, datamodule)
    configuration: Any = OmegaConf.to_container(config, resolve=True)
    callbacks: list[Any] = [SameOnAllRanks(configuration, datamodule.split_record()["sha256"])]
    callbacks += [*build(config, "callbacks").values(), MetricsFile(run_dir / "metrics.csv")]
    callbacks += [StageCheckpoint(checkpoints, schedule)]
    if config.trainer.enable_progress_bar:
        callbacks.append(StageProgressBar())
    trainer = build(
        config,
        "trainer",
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
    if isinstance(trainer.strategy, DDPStrategy):
        # Stages leave parameters out. Lightning's own choice for several devices is the same strategy.
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    if datamodule.batch_size % trainer.world_size:
        raise UserError(
            f"dataset.batch_size={datamodule.batch_size} must be divisible by the {trainer.world_size} processes that "
            "share it"
        )
    if trainer.world_size > 1 and trainer.is_global_zero:
        print(batch_sentence(datamodule, module, trainer))
    return datamodule, module, trainer


def _loss(config: DictConfig, backbone: Any, image_shape: tuple[int, ...], facts: dict[str, Any]) -> tuple[Any, Any]:
    """The robust loss, and the inner layers that it is of, if it is."""
    from drolt_pl.layers import LayerTaps
    from drolt_pl.losses import LayeredDROLTLoss

    one = OmegaConf.create({"loss": {key: value for key, value in config.loss.items() if key != "layers"}})
    layers = config.loss.get("layers")
    if layers is None:
        return build(one, "loss", **facts), None
    taps = checked("loss", lambda: LayerTaps(backbone, list(layers), image_shape))
    widths = zip(taps.layers, taps.widths, strict=True)
    losses = {name: build(one, "loss", **{**facts, "num_features": width}) for name, width in widths}
    return LayeredDROLTLoss(losses), taps


def _objectives(config: DictConfig, schedule: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """What the stages minimise, each with its own criterion, or the run's."""
    objectives = {}
    for name in dict.fromkeys(stage.objective for stage in schedule.stages):
        own = f"objectives.{name}.criterion"
        key = "criterion" if OmegaConf.select(config, own) is None else own
        criterion = build(config, key, class_counts=facts["class_counts"])
        objectives[name] = build(config, f"objectives.{name}", criterion=criterion, **facts)
    return objectives


def _check_names(schedule: Any) -> None:
    """What stages name that nothing looks up before they begin."""
    from drolt_pl.data.samplers import SAMPLERS

    for stage in (stage for stage in schedule.stages if stage.epochs):
        names = {"sampling": tuple(SAMPLERS), "monitor": MONITORS if stage.uses_centroids else MONITORS[:4]}
        for key, allowed in names.items():
            if getattr(stage, key) not in allowed:
                raise UserError(
                    f"schedule.stages.{stage.name}.{key} must be one of {allowed}, got {getattr(stage, key)!r}"
                )


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


def _classifier(stage: str, spec: dict[str, Any]) -> Any:
    key = f"schedule.stages.{stage}.classifier_args"
    config = OmegaConf.create({})
    OmegaConf.update(config, key, spec)
    return build(config, key)


def _refuse_unfitted(module: Any, datamodule: Any) -> None:
    """Some classifiers choose a number on validation images; where there are none, it has to be given."""
    for stage in (stage for stage in module.schedule.stages if stage.epochs):
        wanting = getattr(module.classifiers[module.schedule.classifier_of(stage.name)], "wanting", None)
        if wanting is not None and not len(datamodule.split.val):
            raise UserError(
                f"schedule.stages.{stage.name}.classifier_args={{{wanting}: ...}} must be given: {stage.classifier} "
                f"chooses it on validation images, which protocol={datamodule.rules.protocol} has not"
            )


def _classifier_specs(config: DictConfig, schedule: Any, conf: Path) -> dict[str, dict[str, Any]]:
    """Constructor arguments of each stage's own classifier: the base one, or the file of its name."""
    base: Any = OmegaConf.to_container(config.classifier, resolve=True)
    specs = {}
    for stage in schedule.stages:
        arguments = stage.classifier_args or {}
        if stage.classifier in ("keep", "reset"):
            specs[stage.name] = base | arguments
            continue
        path = conf / "classifier" / f"{stage.classifier}.yaml"
        if not path.exists():
            allowed = ["keep", "reset", *sorted(file.stem for file in path.parent.glob("*.yaml"))]
            raise UserError(
                f"schedule.stages.{stage.name}.classifier must be one of {allowed}, got {stage.classifier!r}"
            )
        # Below the configuration, so that the file may refer to it.
        whole = OmegaConf.merge(OmegaConf.to_container(config), {"own": OmegaConf.load(path)})
        own: Any = OmegaConf.to_container(whole.own, resolve=True)
        specs[stage.name] = own | arguments
    return {name: spec for name, spec in specs.items() if schedule.classifier_of(name) == name}
