"""What befalls a run from outside."""

import sys

import pytest

from drolt_pl.run.mishaps import forget_late_workers


def test_a_worker_that_dies_late_is_not_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __del__(self) -> None:
            raise RuntimeError

    class _MultiProcessingDataLoaderIter:  # torch's name
        def __del__(self) -> None:
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    for _ in range(2):
        forget_late_workers()  # the second time changes nothing
    Other()
    assert "Traceback" in capsys.readouterr().err
    _MultiProcessingDataLoaderIter()
    assert capsys.readouterr().err == ""
