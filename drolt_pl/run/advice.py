"""What would make a run faster on this machine, and by how much; `speed=auto` takes it.

A step of the run's own network is measured at the start, forward and backward, as it is and with bf16. That takes a
second or two, and is left out where the whole run takes less than a minute.
"""

import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from drolt_pl.data import LongTailDataModule
from drolt_pl.learning.schedule import Schedule
from drolt_pl.records import read_record, write_atomically
from drolt_pl.run.clock import images_of_epoch

PRECISION, WORKERS = "trainer.precision", "dataset.num_workers"  # the keys that `speed=auto` takes
TAKEN = "speed.json"  # in the run's folder: what `speed=auto` took, for a run that goes on
WORTH = 1.15  # times as fast from which on a change is worth it
SHORT, LONG = 60.0, 1800.0  # seconds: shorter runs get no advice, compilation pays in longer ones
STEP = 0.5  # seconds of a measured step at most, as far as the batch can be made smaller


@dataclass(frozen=True)
class Advice:
    """A setting that would make the run faster.

    Attributes:
        key: Of the configuration.
        value: That it should have.
        why: What was found, as a clause.
        taken: Whether `speed=auto` takes it.
    """

    key: str
    value: str | int
    why: str
    taken: bool = False

    def sentence(self) -> str:
        return f"{self.key}={self.value}: {self.why}"


@dataclass(frozen=True)
class Speed:
    """What a run was told about its speed, and what it took."""

    told: tuple[Advice, ...] = ()
    taken: Mapping[str, str | int] | None = None

    def lines(self) -> Iterator[str]:
        """What a run says about it at its start."""
        for advice in self.told:
            taken = advice.key in (self.taken or {})
            yield f"speed: {'takes' if taken else 'faster with'} {advice.sentence()}"


def settle_speed(
    config: DictConfig, folder: Path, backbone: nn.Module, data: LongTailDataModule, schedule: Schedule
) -> Speed:
    """Finds out what would make a run faster; with `speed=auto` puts it into the configuration and the data module.

    A run that goes on takes what it took before.
    """
    auto = config.get("speed") == "auto"
    before = folder / TAKEN
    if auto and before.exists():
        return Speed(taken=_take(config, data, _read(before)))
    trainer = config.trainer
    alone = trainer.devices in (1, "auto") and trainer.num_nodes == 1  # ranks might measure, and choose, differently
    if not alone or (trainer.accelerator != "cpu" and torch.accelerator.is_available()):
        return Speed(taken={} if auto else None)
    told = tuple(advise(config, backbone, data, schedule))
    if not auto:
        return Speed(told)
    taken = _take(config, data, {advice.key: advice.value for advice in told if advice.taken})
    write_atomically(before, json.dumps(taken))
    return Speed(told, taken)


def advise(config: DictConfig, backbone: nn.Module, data: LongTailDataModule, schedule: Schedule) -> Iterator[Advice]:
    """What would make a run on this machine's CPU faster."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not data.store.in_memory and data.store.num_workers == 0:
        yield Advice(WORKERS, cores, "files are decoded while the network learns, not in between", True)
    images = sum(stage.epochs * images_of_epoch(stage, data) for stage in schedule.trained if stage.trains("backbone"))
    plain = str(config.trainer.precision) in ("32", "32-true")
    if (
        not images
        or config.compile is not None
        or not any(parameter.requires_grad for parameter in backbone.parameters())
    ):
        return
    first = step_seconds(backbone, data.sample_shape, min(8, data.batch_size), bf16=False)
    size = max(min(8, data.batch_size), min(data.batch_size, int(8 * STEP / max(first, 1e-6))))
    if first / 8 * images < SHORT:
        return
    slow = step_seconds(backbone, data.sample_shape, size, bf16=False)
    if plain:
        gain = slow / step_seconds(backbone, data.sample_shape, size, bf16=True)
        if gain >= WORTH:
            yield Advice(PRECISION, "bf16-mixed", f"a step is {gain:.1f} times as fast here", True)
    if slow / size * images > LONG:
        minutes = slow / size * images / 60
        yield Advice(
            "compile", "default", f"may pay in a run of about {minutes:.0f} minutes; compiling takes one or two"
        )
    if torch.get_num_threads() < cores:
        yield Advice("num_threads", cores, f"the processor has {cores} cores, and {torch.get_num_threads()} work")


def step_seconds(backbone: nn.Module, shape: tuple[int, ...], size: int, *, bf16: bool) -> float:
    """Seconds of a forward and backward pass of a copy of the network; it and the random state stay as they are."""
    with torch.random.fork_rng(devices=[]):
        network = copy.deepcopy(backbone).train()
        samples = torch.randn(size, *shape)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                found = network(samples)
            torch.autograd.backward([_sum(found)])

        times = [_seconds(step) for _ in range(2)]
        if times[-1] < STEP:
            times += [_seconds(step) for _ in range(3)]
    return statistics.median(times[1:])


def _sum(found: object) -> Tensor:
    if isinstance(found, Tensor):
        return found.float().sum()
    assert isinstance(found, tuple | list)
    return torch.stack([_sum(one) for one in found]).sum()


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class _Taken(BaseModel):
    """What a speed.json may hold: a run's folder may come from elsewhere, so nothing but what `speed=auto` takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    precision: Literal["bf16-mixed"] | None = Field(None, alias="trainer.precision")
    num_workers: Annotated[int, Ge(0), Le(1024)] | None = Field(None, alias="dataset.num_workers")


def _read(path: Path) -> dict[str, str | int]:
    return read_record(path, _Taken.model_validate_json).model_dump(by_alias=True, exclude_none=True)


def _take(config: DictConfig, data: LongTailDataModule, values: Mapping[str, str | int]) -> Mapping[str, str | int]:
    for key, value in values.items():
        OmegaConf.update(config, key, value)
        if key == WORKERS:
            data.store.num_workers = int(value)
    return values
