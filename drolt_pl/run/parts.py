"""Builds the parts of a run from the configuration: schedule, data, network, objectives, module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from drolt_pl import escape
from drolt_pl.backbones import Backbone
from drolt_pl.backbones.layers import LayerTaps
from drolt_pl.classifiers import Classifier
from drolt_pl.data import LongTailDataModule
from drolt_pl.data.augment.mixing import Mixing
from drolt_pl.data.samplers import samplers_named
from drolt_pl.data.split import NO_TEST
from drolt_pl.errors import SettingError, require, require_choice
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss
from drolt_pl.model.description import Description, Groups
from drolt_pl.objectives import Objective
from drolt_pl.run import ranks
from drolt_pl.run.build import build, plain, under
from drolt_pl.run.network import backbone_spec, build_backbone, build_datamodule

# Accuracies of the classifier, and in stages with centroids of the nearest one.
MONITORS = (
    *("val/acc", "val/many", "val/medium", "val/few"),
    *("val/acc_ncm", "val/acc_ncm_cosine", "val/many_ncm", "val/medium_ncm", "val/few_ncm"),
)


def build_schedule(config: DictConfig, conf: Path) -> Schedule:
    """Builds the schedule, and checks the samplers and monitors that stages name."""
    kinds: dict[str, type[Objective]] = {key: get_class(spec["_target_"]) for key, spec in config.objectives.items()}
    stages: dict[str, dict[str, Any]] = plain(config.schedule.stages)
    own = {stage: str(fields["classifier"]) for stage, fields in stages.items()}
    fitted = {
        name
        for stage, name in own.items()
        if name not in ("keep", "reset") and _classifier_class(name, conf, f"schedule.stages.{stage}.classifier").fitted
    }
    uses = {name: kind.uses_centroids for name, kind in kinds.items()}
    with under("schedule"):
        passes = {name: kind.passes for name, kind in kinds.items()}
        schedule = Schedule(stages, config.schedule.order, uses, fitted, passes)
    for stage in schedule.trained:
        with under(f"schedule.stages.{stage.name}"):
            samplers_named(stage.sampling)
        monitors = MONITORS if stage.uses_centroids else MONITORS[:4]
        require_choice(f"schedule.stages.{stage.name}.monitor", stage.monitor, monitors)
    if config.protocol == "published" and any(stage.start_from == "best" for stage in schedule.stages):
        demand = "needs a validation set, and protocol=published has none"
        raise SettingError("schedule.stages.*.start_from=best", demand)
    return schedule


def build_data(config: DictConfig, schedule: Schedule) -> LongTailDataModule:
    """Builds the data module and splits the data."""
    mixings = build_mixings(config, schedule)
    datamodule = build_datamodule(config, plan=schedule.stage_at, mixings=mixings)

    def prepare() -> None:
        with under("dataset"):
            datamodule.prepare_data()

    if config.resume is None or config.trust:  # a run that goes on has had its data
        ranks.once_a_node("data", prepare)
    with under("dataset"):
        datamodule.setup("fit")
        if not len(datamodule.split.test):
            raise SettingError(*NO_TEST)  # now, not once all is trained
    if datamodule.duplicates is not None and ranks.is_first():
        print(f"warning: {escape.plain(datamodule.duplicates)}", flush=True)
    for stage in schedule.trained:
        with under(f"schedule.stages.{stage.name}"):
            datamodule.require_views(stage.views)
            _refuse_pixels(config, stage, mixings, datamodule.sample_shape)
    return datamodule


def _refuse_pixels(
    config: DictConfig, stage: Stage, mixings: Mapping[str, Mixing], sample_shape: tuple[int, ...]
) -> None:
    """Some objectives and mixings work on pixels; samples that are no images have none."""
    if len(sample_shape) == 3:
        return
    kind: type[Objective] = get_class(config.objectives[stage.objective]["_target_"])
    mixed = stage.mixing is not None and mixings[stage.mixing].needs_images
    for field, value, needs in (("objective", stage.objective, kind.needs_images), ("mixing", stage.mixing, mixed)):
        require(field, value, not needs, "must be one for stored features: this one works on the pixels of images")


def build_mixings(config: DictConfig, schedule: Schedule) -> dict[str, Mixing]:
    """Builds the mixings that stages name, by name."""
    mixings: dict[str, Mixing] = {}
    for stage in schedule.trained:
        if stage.mixing is None:
            continue
        key = f"schedule.stages.{stage.name}.mixing"
        require(key, stage.mixing, stage.mixing in config.mixing, f"must be null or one of {sorted(config.mixing)}")
        if stage.uses_centroids and config.centroids != "epoch":
            demand = "needs centroids=epoch: those of a batch would be means of mixed images"
            raise SettingError(f"{key}={stage.mixing}", demand)
        mixings[stage.mixing] = build(config, f"mixing.{stage.mixing}")
    return mixings


Robustness = tuple[DROLTLoss | LayeredDROLTLoss, LayerTaps | None]


class Facts(NamedTuple):
    """Sizes of data and backbone that the other parts need."""

    num_features: int
    num_classes: int
    class_counts: list[int]


def classifier_specs(config: DictConfig, schedule: Schedule, facts: Facts, conf: Path) -> dict[str, dict[str, Any]]:
    """Constructor arguments of each stage's own classifier, from `classifier` or from the file that the stage names."""
    sizes = {"num_features": facts.num_features, "num_classes": facts.num_classes}
    owners = {schedule.classifier_of(stage.name) for stage in schedule.stages}
    specs: dict[str, dict[str, Any]] = {}
    for stage in (stage for stage in schedule.stages if stage.name in owners):
        spec = classifier_spec(config, stage.classifier, conf, f"schedule.stages.{stage.name}.classifier")
        specs[stage.name] = {**spec, **(stage.classifier_args or {}), **sizes}
    return specs


def build_classifier(stage: str, spec: Mapping[str, Any]) -> Classifier:
    """Builds a stage's own classifier; an error names the argument of the stage."""
    key = f"schedule.stages.{stage}.classifier_args"
    config = OmegaConf.create({})
    OmegaConf.update(config, key, spec)
    classifier: Classifier = build(config, key)
    return classifier


def build_loss(config: DictConfig, backbone: Backbone, sample_shape: tuple[int, ...], facts: Facts) -> Robustness:
    """The robust loss. With `loss.layers`, also the taps that it measures at."""
    one = OmegaConf.create({"loss": {key: value for key, value in config.loss.items() if key != "layers"}})
    counts = {"num_classes": facts.num_classes, "class_counts": facts.class_counts}
    if config.loss.layers is None:
        loss: DROLTLoss = build(one, "loss", **counts, num_features=facts.num_features * backbone.num_experts)
        return loss, None
    with under("loss"):
        taps = LayerTaps(backbone, list(config.loss.layers), sample_shape)
    widths = zip(taps.layers, taps.widths, strict=True)
    return LayeredDROLTLoss({name: build(one, "loss", **counts, num_features=width) for name, width in widths}), taps


def build_objectives(
    config: DictConfig, schedule: Schedule, facts: Facts, robust: Robustness, backbone: Backbone
) -> dict[str, Objective]:
    """Builds the objectives that stages name, each with its own criterion or the run's."""
    objectives: dict[str, Objective] = {}
    shared = {**facts._asdict(), **plain(config.groups), "loss": robust[0], "taps": robust[1], "backbone": backbone}
    for name in dict.fromkeys(stage.objective for stage in schedule.stages):
        own = f"objectives.{name}.criterion"
        key = "criterion" if OmegaConf.select(config, own) is None else own
        criterion = build(config, key, class_counts=facts.class_counts)
        known = {"criterion": criterion, "centroids": config.centroids, "earlier": list(objectives.values())}
        objectives[name] = build(config, f"objectives.{name}", **shared, **known)
    return objectives


def build_module(
    config: DictConfig, schedule: Schedule, datamodule: LongTailDataModule, checkpoints: Path, conf: Path
) -> DROLTModule:
    """Builds the Lightning module of all stages."""
    spec = backbone_spec(config, datamodule.sample_shape)
    backbone = build_backbone(config, spec, checkpoints)
    facts = Facts(backbone.num_features, datamodule.num_classes, datamodule.class_counts)
    specs = classifier_specs(config, schedule, facts, conf)
    classifiers = {name: build_classifier(name, spec) for name, spec in specs.items()}
    loss, taps = build_loss(config, backbone, datamodule.sample_shape, facts)
    description = Description(
        backbone=spec,
        classifiers=specs,
        class_names=tuple(datamodule.class_names),
        class_counts=tuple(datamodule.class_counts),
        preprocessing=datamodule.preprocessing(),
        groups=Groups(many=config.groups.many, few=config.groups.few),
        distance=loss.measure.distance,
        feature_norm=loss.measure.feature_norm,
    )
    _refuse_unfitted(schedule, classifiers, datamodule)
    return DROLTModule(
        backbone,
        classifiers,
        objectives=build_objectives(config, schedule, facts, (loss, taps), backbone),
        schedule=schedule,
        optimizer=build(config, "optimizer"),
        class_counts=datamodule.class_counts,
        measure=loss.measure,
        many=config.groups.many,
        few=config.groups.few,
        seed=config.seed,
        description=description.as_plain(),
        checkpoint_dir=checkpoints,
    )


def _refuse_unfitted(schedule: Schedule, classifiers: Mapping[str, Classifier], datamodule: LongTailDataModule) -> None:
    """Some classifiers choose a number on validation images; where there are none, it must be given.

    What a classifier takes from a file must be there before anything is trained.
    """
    for stage in [*schedule.trained, *schedule.fitted]:
        classifier = classifiers[schedule.classifier_of(stage.name)]
        with under(f"schedule.stages.{stage.name}.classifier_args"):
            classifier.check_source()
        wanting = classifier.wanting
        if wanting is not None and not len(datamodule.split.val):
            raise SettingError(
                f"schedule.stages.{stage.name}.classifier_args={{{wanting}: ...}}",
                f"must be given: {stage.classifier} chooses it on validation images, and "
                f"protocol={datamodule.rules.protocol} has none",
            )


def classifier_spec(config: DictConfig, name: str, conf: Path, key: str) -> dict[str, Any]:
    """Constructor arguments of the classifier that a stage names: the base one, or those of a file.

    Args:
        config: The configuration.
        name: What the stage says.
        conf: The folder of configurations.
        key: Where the stage says it.
    """
    if name in ("keep", "reset"):
        return plain(config.classifier)
    # Below the configuration, so that the file may refer to it.
    own = OmegaConf.load(_classifier_file(name, conf, key))
    return plain(OmegaConf.merge(OmegaConf.to_container(config), {"own": own}).own)


def _classifier_class(name: str, conf: Path, key: str) -> type[Classifier]:
    spec = OmegaConf.load(_classifier_file(name, conf, key))
    found: type[Classifier] = get_class(str(OmegaConf.select(spec, "_target_")))
    return found


def _classifier_file(name: str, conf: Path, key: str) -> Path:
    files = {path.stem: path for path in sorted((conf / "classifier").glob("*.yaml"))}
    require_choice(key, name, ["keep", "reset", *files])
    return files[name]
