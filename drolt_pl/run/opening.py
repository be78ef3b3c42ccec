"""What a run says at its start: data, network, device, and the rates of each stage."""

import math
from collections.abc import Iterator, Mapping, Sequence

from omegaconf import DictConfig

from drolt_pl import escape
from drolt_pl.data import LongTailDataModule
from drolt_pl.groups import group_masks
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.run.arguments import argument
from drolt_pl.run.assemble import Run
from drolt_pl.run.clock import images_of_epoch
from drolt_pl.run.outcome import hardware
from drolt_pl.run.tree import Tree

MEASURES = ("distance", "feature_norm")  # keys of the loss that nearest centroids are measured by, whatever is trained
SIZES = ("name", "arch", "depth")  # arguments that say which network of its kind a backbone is


def opening(run: Run, tree: Tree, overrides: Sequence[str]) -> Iterator[str]:
    """The lines that a run begins with.

    Args:
        run: The run.
        tree: Its configuration as it was composed.
        overrides: The overrides of the command line.
    """
    module, data = run.module, run.datamodule
    yield _of_data(run.config, data)
    yield from (escape.plain(note) for note in data.notes)
    device = hardware(run.trainer.strategy.root_device)
    yield f"{_of_network(module)}; {device}, precision {run.trainer.precision}"
    yield from run.speed.lines()
    rates = {stage.name: _rates(module, stage) for stage in module.schedule.stages}
    decay = module.stage_optimizer.layer_decay
    yield from (f"stage {name}: {_of_stage(module.schedule.named(name), own, decay)}" for name, own in rates.items())
    if (typed := argument(overrides, "optimizer.lr")) is not None:
        yield from _where_it_reached(typed, module.schedule, rates, tree)
    yield from _of_no_use(overrides, module.schedule)
    for stage in module.schedule.trained:
        yield from _of_average(stage, math.ceil(images_of_epoch(stage, data) / stage.views / data.batch_size))


def _of_data(config: DictConfig, data: LongTailDataModule) -> str:
    split, groups = data.split, config.groups
    counts = group_masks(split.class_counts, groups.many, groups.few)
    sizes = ", ".join(f"{int(mask.sum())} {name}" for name, mask in counts.items())
    shape = "x".join(map(str, data.sample_shape))
    others = f"{len(split.val):,} validate, {len(split.test):,} test"
    return (
        f"data: {type(data).__name__}, {len(split.train):,} samples ({shape}) of {data.num_classes} classes train "
        f"({sizes}), {others}"
    )


def _of_network(module: DROLTModule) -> str:
    spec = dict((module.description or {}).get("backbone", {}))
    kind = str(spec.get("_target_", type(module.backbone).__name__)).rpartition(".")[2]
    words = [kind, *(str(spec[key]) for key in SIZES if key in spec)]
    parameters = sum(parameter.numel() for parameter in module.backbone.parameters())
    width = module.backbone.num_features
    return f"network: {escape.plain(' '.join(words))}, {parameters:,} parameters, {width} features"


def _rates(module: DROLTModule, stage: Stage) -> dict[str, float]:
    """The learning rates of a stage by optimizer group, of those that have parameters and learn."""
    groups = module.objectives.parameter_groups(module.backbone, module.stages)
    settings = module.stage_optimizer
    return {
        name: settings.rates(stage, name, 1.0)[0]  # type: ignore[arg-type]
        for name, parameters in groups.items()
        if parameters and stage.trains(name) and stage.epochs
    }


def _of_stage(stage: Stage, rates: Mapping[str, float], decay: float | None) -> str:
    if not stage.epochs:
        return f"fits {stage.classifier}" if stage.fits else "left out (0 epochs)"
    warmup = stage.curve.warmup_epochs
    curve = f"{stage.curve.shape}{f', warm-up of {warmup},' if warmup else ''}"
    ends = "" if stage.patience is None else f" at most, patience {stage.patience} by {stage.monitor}"
    averages = "" if stage.ema is None else f"; weights averaged, ema {stage.ema:g}"
    layers = {"backbone": f" (times {decay:g} a layer)" if decay is not None else ""}
    listed = ", ".join(f"{group} {rate:g}{layers.get(group, '')}" for group, rate in rates.items())
    epochs = f"{stage.epochs} epoch{'' if stage.epochs == 1 else 's'}"
    return f"{epochs}{ends}; {curve} learning rates: {listed}{averages}"


def _where_it_reached(
    typed: str, schedule: Schedule, rates: Mapping[str, Mapping[str, float]], tree: Tree
) -> Iterator[str]:
    """A warning where `optimizer.lr` was typed, and stages have rates of their own."""
    own = [stage for stage in schedule.trained if not _takes_default(stage)]
    if not own:
        return
    reached = [stage.name for stage in schedule.trained if stage not in own]
    where = f"reaches {_listed(reached)} alone" if reached else "reaches no stage"
    have = _listed([f"{stage.name} ({max(rates[stage.name].values()):g})" for stage in own])
    keys = list(dict.fromkeys(tree.name(f"schedule.stages.{stage.name}.lr") for stage in own))
    verb = "has a rate of its own" if len(own) == 1 else "have rates of their own"
    yield f"warning: optimizer.lr={escape.plain(typed)} {where}: {have} {verb}, see {_listed(keys)}"


def _of_no_use(overrides: Sequence[str], schedule: Schedule) -> Iterator[str]:
    """A warning for each key that was typed of a part that no stage has."""
    named: dict[str, set[str | None]] = {
        "objectives": {stage.objective for stage in schedule.stages},
        "mixing": {stage.mixing for stage in schedule.trained},
    }
    robust = any(stage.uses_centroids for stage in schedule.trained)
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        group, _, rest = key.partition(".")
        unused = group in named and bool(rest) and rest.partition(".")[0] not in named[group]
        if unused or (group == "loss" and rest and rest not in MEASURES and not robust):
            what = "the robust loss" if group == "loss" else f"{group}.{rest.partition('.')[0]}"
            yield f"warning: {escape.plain(key)} changes nothing: no stage here has {escape.plain(what)}"


def _takes_default(stage: Stage) -> bool:
    if isinstance(stage.lr, Mapping):
        return any(stage.lr.get(part) is None for part in stage.trainable)  # type: ignore[call-overload]
    return stage.lr is None


def _of_average(stage: Stage, steps: int) -> Iterator[str]:
    """A warning where a stage is too short for its average to leave the weights that it began with."""
    if stage.ema is None or stage.epochs * steps * (1 - stage.ema) >= 2:
        return
    yield (
        f"warning: schedule.stages.{stage.name}.ema={stage.ema:g} averages over about {1 / (1 - stage.ema):.0f} steps, "
        f"and the stage has {stage.epochs * steps}: its averages stay near its first weights; lower ema"
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
