"""All uses of private parts of Lightning, each with its reason."""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

T = TypeVar("T")


def epochs_begun(trainer: pl.Trainer) -> int:
    """The number of epochs whose training has ended: the number of the epoch that the trainer loads data for.

    `trainer.current_epoch` will not do: when a resumed run asks for its first loader, it is still one less
    (Lightning 2.6, issue 21938), and the epoch would be drawn with the sampling of another stage.
    """
    current = trainer.fit_loop.epoch_progress.current
    processed: int = current.processed  # type: ignore[attr-defined]  # of its private class _ProcessedTracker
    return processed


def replaces_samplers(trainer: pl.Trainer) -> bool:
    """Whether the trainer would put its own sampler into loaders; no public attribute tells."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)


def allow_unused_parameters(trainer: pl.Trainer) -> None:
    """Tells DDP to look for parameters without gradient, since stages leave parameters out.

    From a strategy's name the trainer makes the strategy itself, and takes no options for it.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def not_sent_by_ddp(module: pl.LightningModule, names: Iterable[str]) -> None:
    """Keeps DDP from sending buffers that are equal on all ranks by construction; torch offers no public way."""
    module._ddp_params_and_buffers_to_ignore = list(names)  # type: ignore[assignment]


def set_epoch(checkpoint: dict[str, Any], epoch: int) -> None:
    """Turns a checkpoint of any epoch's end into one of epoch `epoch - 1`; Lightning resumes from its loops' state."""
    checkpoint["epoch"] = epoch - 1
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for counters in (progress["total"], progress["current"]):
        counters |= {"ready": epoch, "started": epoch, "processed": epoch, "completed": epoch - 1}


def found_callbacks(trainer: pl.Trainer) -> Sequence[pl.Callback]:
    """The trainer's callbacks in the order in which their hooks run; its attribute is untyped."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def profile_of(trainer: pl.Trainer) -> str:
    """What the trainer's profiler has measured, as a table; empty without one. Its attribute is untyped."""
    table: str = trainer.profiler.summary()  # type: ignore[attr-defined]
    return table


class _NoSignals:
    """In place of Lightning's part that takes signals."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """Takes none."""

    def teardown(self) -> None:
        """Gives none back."""


def leave_signals(trainer: pl.Trainer) -> None:
    """Keeps Lightning from the signals, which are `run.signals`' to hear; no argument of its trainer does.

    Its own handler exchanges something with the other ranks, which are elsewhere then, so that all hang; and it tells
    every step whether rank 0 was told to stop, for which a GPU is waited for.
    """
    trainer._signal_connector = _NoSignals()  # type: ignore[assignment]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher of ranks, without its thread that kills all of them as soon as one is gone."""

    def __init__(self, theirs: _SubprocessScriptLauncher, started: Callable[[Sequence[subprocess.Popen[Any]]], None]):
        super().__init__(theirs.cluster_environment, theirs.num_processes, theirs.num_nodes)
        self.started = started

    def launch(self, function: Callable[..., T], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> T:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            self.started(self.procs)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def give_ranks(trainer: pl.Trainer, started: Callable[[Sequence[subprocess.Popen[Any]]], None]) -> None:
    """Hands over the processes of the ranks that the trainer starts; Lightning keeps them to itself."""
    theirs = trainer.strategy.launcher
    if isinstance(theirs, _SubprocessScriptLauncher):
        trainer.strategy._launcher = _Launcher(theirs, started)


class TrackingBar(RichProgressBar):
    """Lightning's rich bar with our description and lines for other passes; it offers no public way to either."""

    def description(self, epoch: int) -> str:
        """The text before an epoch's bar."""
        raise NotImplementedError

    def _get_train_description(self, current_epoch: int) -> str:
        return self.description(current_epoch)

    def counted(self, length: int | None, batches: Iterable[T], description: str) -> Iterator[T]:
        """Yields `batches` and counts them in a line of their own while the bar is shown."""
        if self.progress is None or length is None:
            yield from batches
            return
        task = self._add_task(length, description)
        for batch in batches:
            yield batch
            self.progress.update(task, advance=1, visible=True)
        self.progress.update(task, visible=False)
        self.progress.remove_task(task)
