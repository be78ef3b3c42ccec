"""Processes of one run that torchrun, srun, or a user on each node has started.

Each of them reads the command line for itself. Some things only one of them may decide (the run's folder, whose name is
a time) or do (fetching data for its node). These go through a store that all of them reach.
"""

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING

from drolt_pl.errors import SettingError
from drolt_pl.run.signals import end_at_once

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

WAIT = timedelta(hours=2)  # for the process that decides: it may have data to fetch


@dataclass(frozen=True)
class Meeting:
    """Where this process meets the others of its run.

    Attributes:
        rank: Number of this process among all, or among the first processes of the nodes.
        local_rank: Number of this process on its node.
        node: Number of its node.
        address: Host of the store.
        port: Port of the store.
        hosted: Whether the launcher serves the store; else rank 0 does.
        world: Number of processes that the launcher has started; null if a user starts one on each node.
    """

    rank: int
    local_rank: int
    node: int
    address: str
    port: int
    hosted: bool
    world: int | None

    def decided(self, key: str, decide: Callable[[], str], *, decides: bool) -> str:
        """Returns one text in all processes of a group: the process with `decides` computes it.

        If that process fails, the others end with exit code 1 and leave the message to it.
        """
        key = f"drolt_pl/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{key}"
        if decides:
            try:
                text = decide()
            except BaseException:
                self._store.set(key, "failed")
                raise
            self._store.set(key, f"done {text}")
            return text
        state, _, found = str(self._store.get(key), "utf-8").partition(" ")
        if state == "failed":
            raise SystemExit(1)
        return found

    @cached_property
    def _store(self) -> "TCPStore":
        # The store is served until this process ends, so nobody has to wait for the last reader.
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        require_reachable(self.address)
        serves = self.rank == 0 and not self.hosted
        return TCPStore(self.address, self.port, is_master=serves, wait_for_workers=False, timeout=WAIT)


def require_reachable(address: str, tries: int = 12, pause_s: float = 5.0) -> None:
    """Refuses a host that nobody knows; torch would ask for it for hours.

    Args:
        address: The host.
        tries: How often it is looked up: a cluster may learn the name of a machine while it starts.
        pause_s: Between them.

    Raises:
        SettingError: its name leads nowhere.
    """
    for left in reversed(range(tries)):
        try:
            socket.getaddrinfo(address, None)
        except (OSError, UnicodeError):
            if left:
                time.sleep(pause_s)
                continue
            demand = "must be the name or the address of a machine that can be found"
            raise SettingError(
                "MASTER_ADDR", demand, address, remedy="unset it and NODE_RANK for one machine"
            ) from None
        return


@cache
def meeting() -> Meeting | None:
    """Where the processes of this run meet; None if this process is alone or starts the others itself."""
    return find_meeting(os.environ)


def find_meeting(variables: Mapping[str, str]) -> Meeting | None:
    """Reads the meeting from variables of torchrun, srun or a user (MASTER_ADDR, MASTER_PORT, NODE_RANK)."""

    def number(name: str) -> int:
        text = variables.get(name) or "0"
        if not text.isascii() or not text.isdigit():
            demand = "must be a whole number in the environment: a launcher sets it"
            raise SettingError(name, demand, text, remedy=f"unset {name}")
        return int(text)

    if "TORCHELASTIC_RUN_ID" in variables:
        require_set(variables, "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")
        hosted = variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        port = _port(number("MASTER_PORT"), 0 if hosted else 1)
        places = number("RANK"), number("LOCAL_RANK"), number("GROUP_RANK")
        return Meeting(*places, variables["MASTER_ADDR"], port, hosted, number("WORLD_SIZE"))
    if "LOCAL_RANK" in variables:
        number("LOCAL_RANK")
        if not variables.get("MASTER_ADDR"):
            demand = "must not be in the environment without MASTER_ADDR: no launcher has set it"
            raise SettingError("LOCAL_RANK", demand, variables["LOCAL_RANK"], remedy="unset LOCAL_RANK")
        return None  # started by rank 0 of its node
    if number("SLURM_NTASKS") > 1 and variables.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        # Lightning's own reading of these variables: the first host, and a port from 15000 on by the job's number.
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        try:
            slurm = SLURMEnvironment()
        except RuntimeError as error:  # ntasks without ntasks-per-node
            demand = "must be 1 here, or the job have a number of tasks per node"
            remedy = "ask for --ntasks-per-node in place of --ntasks, or unset SLURM_NTASKS to use this machine alone"
            raise SettingError("SLURM_NTASKS", demand, variables["SLURM_NTASKS"], remedy=remedy) from error
        port = slurm.main_port - 10_000
        places = slurm.global_rank(), slurm.local_rank(), slurm.node_rank()
        return Meeting(*places, slurm.main_address, port, False, slurm.world_size())
    if {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= variables.keys():
        node = number("NODE_RANK")
        return Meeting(node, 0, node, variables["MASTER_ADDR"], _port(number("MASTER_PORT"), 1), False, None)
    return None


def _port(first: int, further: int) -> int:
    if not 0 < first + further < 2**16:
        raise SettingError("MASTER_PORT", "must be the number of a port, from 1 to 65534", first)
    return first + further


def require_set(variables: Mapping[str, str], *names: str) -> None:
    """Refuses an environment that torchrun has not made, or that was left over from it in part.

    Raises:
        SettingError: TORCHELASTIC_RUN_ID is there, and one of these is not.
    """
    missing = [name for name in names if not variables.get(name)]
    if missing:
        demand = f"must be in the environment, as TORCHELASTIC_RUN_ID={variables.get('TORCHELASTIC_RUN_ID')} is"
        raise SettingError(missing[0], demand, remedy="start by torchrun, or unset TORCHELASTIC_RUN_ID")


def leave_group_at_exit() -> None:
    """Makes this process leave the group of its ranks before its interpreter ends.

    gloo's threads would else run on while the objects that they use are taken down, and a process that has written all
    it has to write could end by a signal. Lightning does this for NCCL alone.
    """
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process is rank 0 of its run."""
    met = meeting()
    return met.rank == 0 if met is not None else os.environ.get("LOCAL_RANK", "0") == "0"


def require_all_used(devices: int, nodes: int) -> None:
    """Refuses a launcher that has started more or fewer processes than the run has ranks.

    Raises:
        SettingError: the trainer's devices and nodes are not the launcher's processes; its name is below `trainer`.
    """
    met = meeting()
    if met is not None and met.world not in (None, devices * nodes):
        raise SettingError(
            f"devices={devices}",
            f"and trainer.num_nodes={nodes} make {devices * nodes} processes, but {met.world} were started: let "
            "trainer.devices be those of one node, and set trainer.strategy=ddp",
        )


def once_a_node(key: str, action: Callable[[], None]) -> None:
    """Does something in one process of each node, before the others of that node go on.

    Args:
        key: Name of the action.
        action: The action.
    """
    met = meeting()

    def act() -> str:
        action()
        return ""

    if met is not None:
        met.decided(f"{key}/{met.node}", act, decides=met.local_rank == 0)
    elif os.environ.get("LOCAL_RANK", "0") == "0":
        action()  # the others are started later


def is_started_by_another() -> bool:
    """Whether rank 0 of this run has started this process, and so speaks for it."""
    return meeting() is None and os.environ.get("LOCAL_RANK", "0") != "0"


def end_with_first() -> None:
    """In a rank that rank 0 has started: ends this process as soon as that one is gone, however that ended.

    It may hang in an exchange with ranks that are no more.
    """
    if not is_started_by_another():
        return
    first = os.getppid()

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1.0)
        end_at_once(1)

    threading.Thread(target=watch, daemon=True, name="first-rank").start()
