"""What befalls a run from outside."""

import sys

import pytest

from drolt_pl.run.mishaps import forget_late_workers


def test_a_worker_that_dies_where_nobody_can_catch_it_is_not_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __init__(self, text: str) -> None:
            self.text = text

        def __del__(self) -> None:
            raise RuntimeError(self.text)

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    for _ in range(2):
        forget_late_workers()  # the second time changes nothing
    Other("another fault")
    assert "Traceback" in capsys.readouterr().err
    Other(
        "DataLoader worker (pid 12) is killed by signal: Killed. "
    )  # as torch says it, at whatever line it is noticed
    assert capsys.readouterr().err == ""
