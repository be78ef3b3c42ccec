"""How long a run has yet to take, by what its epochs have taken so far."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from drolt_pl.data import LongTailDataModule
from drolt_pl.data.plan import epoch_length
from drolt_pl.learning.schedule import Schedule, Stage

FROZEN = 1 / 3  # cost of a step without the backbone's backward pass, which takes twice the time of its forward pass
SETTLED = 5.0  # seconds of the first epoch after which its steps tell how long it takes: the very first are slow
LATEST = 5  # epochs of a stage that are averaged


class Clock:
    """Measures epochs, from the end of one to the end of the next, and foresees those that are left.

    An epoch of a stage that has not begun is taken to cost what the epochs before it did, by the images that go forward
    and by whether the backbone learns.

    Args:
        schedule: The stages.
        images: Images that go forward in an epoch of each stage, by its name.
        now: The time in seconds.
    """

    def __init__(
        self, schedule: Schedule, images: Mapping[str, int], now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.schedule, self.now = schedule, now
        self._costs = {stage.name: images[stage.name] * _cost(stage) for stage in schedule.trained}
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATEST))
        self._begun = now()

    def begin(self) -> None:
        """Begins the first epoch."""
        self._begun = self.now()

    def end(self, epoch: int) -> float:
        """Ends an epoch; returns its seconds."""
        ended = self.now()
        seconds, self._begun = ended - self._begun, ended
        self._seconds[self.schedule.stage_at(epoch).name].append(seconds)
        return seconds

    def remaining(self, epoch: int, share: float = 1.0) -> float | None:
        """Seconds until all stages are trained; null as long as nothing tells.

        Args:
            epoch: The epoch that runs, or has just ended.
            share: How much of its steps is done.
        """
        elapsed = self.now() - self._begun if share < 1 else 0.0
        known = {name: sum(found) / len(found) for name, found in self._seconds.items()}
        stage = self.schedule.stage_at(epoch)
        if not known and share > 0 and elapsed > SETTLED:
            known = {stage.name: elapsed / share}  # the first epoch: its steps so far
        if not known:
            return None
        per_cost = sum(known.values()) / sum(self._costs[name] for name in known)
        seconds = {name: known.get(name, cost * per_cost) for name, cost in self._costs.items()}
        return seconds[stage.name] * (1 - share) + sum(
            seconds[name] * max(self.schedule.last_epoch(name) - max(epoch, self.schedule.first_epoch(name) - 1), 0)
            for name in self._costs
        )


def clock_of(schedule: Schedule, data: LongTailDataModule) -> Clock:
    """The clock of a run on a data set."""
    return Clock(schedule, {stage.name: images_of_epoch(stage, data) for stage in schedule.trained})


def images_of_epoch(stage: Stage, data: LongTailDataModule) -> int:
    """Images that go forward in an epoch of a stage, on all ranks."""
    return epoch_length(stage.epoch_size, data.split.class_counts)


def _cost(stage: Stage) -> float:
    return 1.0 if stage.trains("backbone") else FROZEN
