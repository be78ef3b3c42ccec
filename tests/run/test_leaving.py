"""A rank leaves its group before its interpreter ends."""

from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from drolt_pl.run import ranks


def test_a_rank_leaves_its_group_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Any] = []
    monkeypatch.setattr(ranks.atexit, "register", at_exit.append)
    ranks.leave_group_at_exit()
    (leave,) = at_exit
    leave()  # without a group there is nothing to leave
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    leave()
    assert not distributed.is_initialized()
