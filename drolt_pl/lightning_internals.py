"""What is not public in Lightning and is needed all the same; every use, with its reason, stands here."""

import pytorch_lightning as pl


def epochs_begun(trainer: pl.Trainer) -> int:
    """Epochs whose training has ended, which is the number of the epoch that the trainer loads data for.

    `trainer.current_epoch` will not do: when a resumed run asks for its first loader, it is still one less
    (Lightning 2.6, issue 21938), and the epoch would be drawn with the sampling of another stage.
    """
    current = trainer.fit_loop.epoch_progress.current
    processed: int = current.processed  # type: ignore[attr-defined]  # of its private class _ProcessedTracker
    return processed
