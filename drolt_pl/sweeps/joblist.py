"""The jobs of a sweep: from the values of its keys to the overrides of each distinct job."""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from drolt_pl.errors import SettingError

MOST_JOBS = 10_000

Job = dict[str, str]  # overrides by key, in the order in which train.py gets them
Variants = Mapping[str, Mapping[str, Sequence[str]]]


class Rule(TypedDict):
    """In a job that sets `at` (KEY=VALUE, or KEY=A,B for one of several values), `keys` change nothing."""

    at: str
    keys: list[str]


class Warmup(TypedDict):
    """A stage that is trained once for all jobs that differ only in keys of `shared_over` or in keys below them."""

    stage: str
    shared_over: list[str]


def parse(overrides: Iterable[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parses overrides as Hydra does, sweeps included; `glob(...)` needs the loader.

    Raises:
        SettingError: a range or an interval of no values.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    for override in parsed:
        _require_values(override)
    return parsed


def _require_values(override: Override) -> None:
    value, name = override.value(), str(override.input_line)
    if isinstance(value, IntervalSweep):
        low, high = float(value.start), float(value.end)  # type: ignore[arg-type]
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SettingError(name, "must be an interval of finite numbers, the smaller one first")
        if "log" in value.tags and low <= 0:
            raise SettingError(name, "must begin above 0 with the tag log: take the tag away, or a small number")
    elif override.is_sweep_override() and not _number(override):
        raise SettingError(name, "must have a value at least: its range has none")


def product(space: Sequence[Override]) -> list[Job]:
    """Makes one job for each combination of values; the first key varies slowest.

    Raises:
        SettingError: a key has an interval, which has no list of values, or there are more than `MOST_JOBS`.
    """
    refuse_many(space)
    axes = []
    for override in space:
        if override.is_interval_sweep():
            raise SettingError(str(override.input_line), "has an interval: set hydra.sweeper.draws, or sweep=optuna")
        axes.append([setting(override, value) for value in choices(override)])
    return [_merged(parts) for parts in itertools.product(*axes)]


def refuse_many(space: Sequence[Override]) -> None:
    """Refuses more jobs than anybody waits for, before any of them is written out.

    Raises:
        SettingError: the product of the values is above `MOST_JOBS`.
    """
    number = math.prod(_number(override) for override in space)
    if number > MOST_JOBS:
        longest = max(space, key=_number)
        demand = (
            f"has {_number(longest):,} values: the sweep would have {number:,} jobs, and {MOST_JOBS:,} are the most"
        )
        raise SettingError(str(longest.key_or_group), demand)


def draw(space: Sequence[Override], number: int, seed: int) -> list[Job]:
    """Draws `number` random jobs; a key's values do not depend on the other keys of the space.

    Lists, ranges and intervals are drawn from uniformly; intervals with the tag `log` are drawn from log-uniformly.
    """
    jobs = []
    for index in range(number):
        parts = []
        for override in space:
            generator = random.Random(f"{seed} {index} {override.key_or_group}")
            parts.append(setting(override, _drawn(override, generator)))
        jobs.append(_merged(parts))
    return jobs


def corners(space: Sequence[Override]) -> list[Job]:
    """Jobs in which each value of a list, and each end of a range or an interval, comes up once."""
    ends = {override.key_or_group: _ends(override) for override in space}
    first = _merged(values[0] for values in ends.values())
    return [first, *({**first, **value} for values in ends.values() for value in values[1:])]


def _ends(override: Override) -> list[Job]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [setting(override, str(end)) for end in (value.start, value.end)]
    if isinstance(value, RangeSweep) and isinstance(steps := value.range(), range) and len(steps):
        return [setting(override, str(end)) for end in (steps[0], steps[-1])]
    return [setting(override, choice) for choice in choices(override)]


@dataclass(frozen=True)
class Variant:
    """Overrides that belong together: those of one label of each axis.

    Attributes:
        overrides: The overrides, as typed on the command line.
        name: The name of its jobs; None if there is no axis.
    """

    overrides: tuple[str, ...]
    name: str | None

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """Adds this variant's overrides to jobs; they win over the jobs' own."""
        own = _merged(setting(override, None) for override in parse(self.overrides))
        name = {} if self.name is None else {"name": f"name={self.name}"}
        return [{**job, **own, **name} for job in jobs]


def combined(variants: Variants) -> list[Variant]:
    """Every combination of one label of each axis; without axes a single variant that sets nothing."""
    found = []
    for labels in itertools.product(*variants.values()):
        chosen = [variants[axis][label] for axis, label in zip(variants, labels, strict=True)]
        found.append(Variant(tuple(itertools.chain(*chosen)), "-".join(labels) or None))
    return found


def distinct(jobs: Iterable[Job], irrelevant: Sequence[Rule]) -> list[Job]:
    """Leaves out overrides that change nothing, and keeps each distinct job once.

    Args:
        jobs: The jobs.
        irrelevant: The rules by which an override changes nothing.
    """
    rules = [(parse([rule["at"]])[0], set(rule["keys"])) for rule in irrelevant]
    kept: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        values = {key: override.value() for key, override in zip(job, parse(job.values()), strict=True)}
        dropped: set[str] = set()
        for at, keys in rules:
            if at.key_or_group in values and values[at.key_or_group] in _values(at):
                dropped |= keys
        short = {key: override for key, override in job.items() if key not in dropped}
        kept.setdefault(tuple(sorted(short.values())), short)
    return list(kept.values())


def without(job: Job, prefixes: Sequence[str]) -> tuple[str, ...]:
    """A job's overrides without those of the given keys and of keys below them."""
    return tuple(
        sorted(
            override
            for key, override in job.items()
            if not any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
        )
    )


def choices(override: Override) -> list[str | None]:
    """The values of a swept key as text; a key that is not swept has None, which stands for the typed value."""
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [None]


def _number(override: Override) -> int:
    """How many values a key takes, without writing them out."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return len(value.list) if isinstance(value, ChoiceSweep) else 1
    start, stop, step = (float(part) for part in (value.start or 0, value.stop or 0, value.step))
    if not all(map(math.isfinite, (start, stop, step))) or step == 0:
        raise SettingError(str(override.input_line), "must be a range of finite numbers with a step that is not 0")
    return max(math.ceil((stop - start) / step), 0)


def setting(override: Override, value: str | None) -> Job:
    """The override that gives a key one of its values."""
    text = override.input_line if value is None else f"{override.get_key_element()}={value}"
    return {override.key_or_group: str(text)}


def _merged(parts: Iterable[Job]) -> Job:
    return {key: override for part in parts for key, override in part.items()}


def _values(override: Override) -> list[object]:
    """The values of an override: one, or those of its list."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _drawn(override: Override, generator: random.Random) -> str | None:
    space = override.value()
    if not isinstance(space, IntervalSweep):
        return generator.choice(choices(override))
    low, high = float(space.start), float(space.end)  # type: ignore[arg-type]
    if "log" in space.tags:
        return f"{math.exp(generator.uniform(math.log(low), math.log(high))):.4g}"
    return f"{generator.uniform(low, high):.4g}"
