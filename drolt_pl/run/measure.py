"""Measures every stage's model after fit, and the model that the run reports."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drolt_pl import escape
from drolt_pl.data.sets.layout import counted
from drolt_pl.learning.schedule import Stage
from drolt_pl.results import Accuracies, Selection, StageResults
from drolt_pl.run.assemble import Run
from drolt_pl.run.evaluate import Checkpoint, evaluate_checkpoint


@dataclass(frozen=True)
class Outcome:
    """The measurements of a run.

    Attributes:
        stages: Accuracies of each stage's final model.
        test, test_pool, val: Accuracies of the model that the run reports; null if there is no such set.
        skipped_files: Unreadable files that dataset.on_corrupt=skip left out.
        selection: How the reported model was chosen.
        objective: The reported model's value of the monitored metric; null if nothing is validated.
    """

    stages: dict[str, StageResults]
    test: Accuracies
    test_pool: Accuracies | None
    val: Accuracies | None
    skipped_files: list[str]
    selection: Selection
    objective: float | None


def measure(run: Run) -> Outcome:
    """Measures each stage's final model and the reported model; the test set is read here for the first time.

    A stage without epochs starts here: its classifier is fitted to the model of the stage before.
    """
    schedule, saved = run.module.schedule, run.saved
    selects = run.config.protocol != "published"
    loaders: dict[str, Iterable[Any] | None] = {
        "train": run.datamodule.centroid_dataloader(),
        "val": run.datamodule.val_dataloader() or None,
        "test": run.datamodule.test_dataloader(),
    }
    pool: dict[str, Iterable[Any] | None] = {"test_pool": run.datamodule.pool_dataloader()}
    last = [*schedule.trained, *schedule.fitted][-1]
    best = saved.best.get(last.name)
    selects_epoch = selects and best is not None
    stages: dict[str, StageResults] = {}
    final: dict[str, Accuracies | None] = {}
    for stage in [*schedule.trained, *schedule.fitted]:
        checkpoint = _stage_checkpoint(run, stage)
        if checkpoint is None:
            continue  # a stage before the one that init_from names
        reported = stage is last and not selects_epoch
        sets = loaders | pool if reported else loaders
        final = evaluate_checkpoint(run.trainer, run.module, checkpoint, stage.name, sets)
        if checkpoint.unfitted:
            _save_fitted(run, stage, checkpoint)
        stages[stage.name] = StageResults(
            train=_of_classifier(final["train"]),
            val=_without_classes(final["val"]),
            test=_of_classifier(final["test"]),
        )
    saved.name_result(run.trainer, f"{last.name}_best.ckpt" if selects_epoch else f"{last.name}.ckpt")
    if selects_epoch:
        chosen = Checkpoint(run.files.load_checkpoint(saved.dirpath / "best.ckpt"))
        rest = {part: loader for part, loader in loaders.items() if part != "train"}
        final = evaluate_checkpoint(run.trainer, run.module, chosen, last.name, rest | pool)
    _keep_centroids(run)
    test, val = final["test"], final["val"]
    assert test is not None
    score = best.score if best is not None else (val.numbers() if val else {}).get(last.monitor.removeprefix("val/"))
    return Outcome(
        stages=stages,
        test=test,
        test_pool=_of_classifier(final["test_pool"]),
        val=_without_classes(val),
        skipped_files=_skipped_files(run),
        selection=Selection(
            metric=last.monitor if selects and score is not None else None,
            stage=last.name,
            epoch=best.epoch if selects_epoch and best is not None else schedule.epochs - 1,
            n_candidates=best.candidates if selects_epoch and best is not None else 1,
        ),
        objective=score,
    )


def _stage_checkpoint(run: Run, stage: Stage) -> Checkpoint | None:
    """The final model of a stage; if the stage is still to be fitted, the model that it starts from."""
    folder = run.saved.dirpath
    own = next((path for end in ("", "_init") if (path := folder / f"{stage.name}{end}.ckpt").exists()), None)
    if own is not None:
        return Checkpoint(run.files.load_checkpoint(own))
    before = run.module.schedule.before(stage.name)
    if not stage.fits or before is None:
        return None
    ends = ("_best", "", "_init") if stage.start_from == "best" else ("", "_init")
    source = next(path for end in ends if (path := folder / f"{before.name}{end}.ckpt").exists())
    return Checkpoint(run.files.load_checkpoint(source), unfitted=True)


def _save_fitted(run: Run, stage: Stage, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint of a stage that was only fitted: the checkpoint before it, with the present weights."""
    content: dict[str, Any] = {**checkpoint.content, "state_dict": run.module.state_dict()}
    run.module.on_save_checkpoint(content)
    content["drolt_pl"]["images_seen"] = checkpoint.content["drolt_pl"]["images_seen"]
    if run.trainer.is_global_zero:
        run.files.save_checkpoint(content, run.saved.dirpath / f"{stage.name}.ckpt")
    run.trainer.strategy.barrier()


def _keep_centroids(run: Run) -> None:
    """Gives `best.ckpt` the centroids of its test where training needed none: predictions name the nearest."""
    path = run.saved.dirpath / "best.ckpt"
    if run.trainer.is_global_zero:  # it alone looks: another rank might already see the new file
        content = run.files.load_checkpoint(path)
        if not bool(content["state_dict"]["centroid_counts"].any()):
            measured = run.module.state_dict()
            content["state_dict"] |= {key: measured[key] for key in ("centroids", "centroid_counts")}
            run.files.save_checkpoint(content, path)
    run.trainer.strategy.barrier()


def _skipped_files(run: Run) -> list[str]:
    """The unreadable files that dataset.on_corrupt=skip left out on any rank; prints them as well."""
    skipped: list[str] = run.datamodule.skipped_files()
    if skipped and run.trainer.is_global_zero:
        names = map(escape.plain, skipped)
        print(f"dataset.on_corrupt=skip went past {counted(len(skipped), 'unreadable file')}:", *names, sep="\n  ")
    return skipped


def _without_classes(measured: Accuracies | None) -> Accuracies | None:
    return None if measured is None else measured.without_classes()


def _of_classifier(measured: Accuracies | None) -> Accuracies | None:
    return None if measured is None else measured.without_nearest_by_class()
