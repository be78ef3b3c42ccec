"""A job of a sweep runs the command that trains in a process tree of its own, which ends with its parent."""

import json
import math
import os
import shlex
import shutil
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from drolt_pl import folders
from drolt_pl.disk import write_whole
from drolt_pl.errors import SettingError, reason
from drolt_pl.folders import FAILURE
from drolt_pl.run import warm
from drolt_pl.run.arguments import quoted
from drolt_pl.run.headway import headway
from drolt_pl.run.leftovers import is_begun
from drolt_pl.run.signals import GRACE, Signals, Stopped, end_at_once, told_by

if TYPE_CHECKING:
    from drolt_pl.results import Results

IS_JOB = "DROLT_JOB"  # set in the environment of a job, whose standard input then tells whether its parent lives
SWEEP = "DROLT_SWEEP"  # host and process number of the sweep, in the environment of its processes
PROGRAM = "DROLT_PROGRAM"  # how the sweep was started, in the same environment
LAST_LINES = 20
OF_TABLES = tuple(" ┏┃┡│├└")  # how their lines begin; a title is centred
PATIENCE = GRACE + 5.0  # seconds between telling a job to stop and ending it
# May differ when a job goes on: what `resume` may change, and where a trained stage is taken from.
MAY_DIFFER = ("trainer.", "logger.", "logger=", "init_from=", "trust=")
# A job must not inherit these: a launcher's process may itself be a rank, and `main` sets Hydra's variable.
RANK_VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS")
NOT_INHERITED = (*RANK_VARIABLES, "HYDRA_FULL_ERROR")


def program() -> tuple[str, ...]:
    """How the command that trains was started, without its arguments: `python train.py`, or `python -m MODULE`.

    In a process that a launcher has started, it is the command that started the sweep.
    """
    told = os.environ.get(PROGRAM)
    if told is not None:
        return tuple(shlex.split(told))
    spec = sys.modules["__main__"].__spec__
    return sys.executable, *([str(Path(sys.argv[0]).resolve())] if spec is None else ["-m", spec.name])


def resume_command(run_dir: Path) -> str:
    """The command that goes on with a run, for a shell."""
    command = f"python {shlex.quote(sys.argv[0])}" if Path(sys.argv[0]).name == "train.py" else "drolt train"
    return f"{command} {shlex.quote(f'resume={run_dir}')}"


def run_job(program: Sequence[str], overrides: Sequence[str], run_dir: Path, cwd: str | Path | None = None) -> float:
    """Runs one job of a sweep, unless it has finished before; a job that was cut short goes on.

    A job that fails leaves `failure.json` (overrides, exit code, last lines) in its folder.

    Args:
        program: The words that start the command that trains, without its arguments.
        overrides: The overrides of the job.
        run_dir: The job's folder, absolute.
        cwd: The folder that relative paths in the overrides start from.

    Returns:
        The validation objective in results.json; nan if the job failed or has no validation.

    Raises:
        SettingError: the folder holds a job with other overrides.
        Stopped: a signal told the job, or this process, to stop: the sweep ends with it.
    """
    require_same(overrides, run_dir)
    results = _results(run_dir)
    if results is not None:
        print(f"finished before: {run_dir}", flush=True)
    else:
        if (line := headway(run_dir)) is not None:
            print(f"{line}: {' '.join([run_dir.name, *overrides])}", flush=True)
        _run(program, overrides, run_dir, cwd)
        results = _results(run_dir)
    return math.nan if results is None or results.objective is None else float(results.objective)


def _results(run_dir: Path) -> "Results | None":
    """The results of a job that has finished; a damaged file is removed: the job, which goes on, measures again."""
    from drolt_pl.results import Results  # here: `--cfg job` does without

    path = run_dir / "results.json"
    if not path.exists():
        return None
    try:
        return Results.load(path)
    except SettingError as error:
        print(f"warning: {error}; the job measures again", flush=True)
        path.unlink()
        return None


def saved_overrides(run_dir: Path) -> list[str] | None:
    """The overrides that began the run of a folder; None if the folder holds no run."""
    try:
        return folders.overrides(run_dir)
    except SettingError as error:
        path = run_dir / folders.OVERRIDES
        raise SettingError(str(path), f"is damaged ({reason(error)})", remedy=f"remove {run_dir}") from error


def end_with_parent() -> None:
    """In a job, ends the whole process group as soon as the process that started the job is gone, for any reason."""
    if os.environ.get(IS_JOB) != "1":
        return

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def mark_sweep() -> None:
    """Tells processes that launchers start, by the environment, which sweep they serve and how it was started."""
    os.environ.pop(PROGRAM, None)
    os.environ[PROGRAM] = shlex.join(program())
    os.environ[SWEEP] = f"{socket.gethostname()} {os.getpid()}"
    os.environ[warm.OURS] = "1" if warm.COMMAND in sys.modules else ""


def require_same(overrides: Sequence[str], run_dir: Path) -> None:
    """Refuses to go on with a job whose folder was begun with other overrides.

    Raises:
        SettingError: the folder was begun with other overrides.
    """
    before = saved_overrides(run_dir) if is_begun(run_dir) else None
    if before is None:
        return
    # Hydra has resolved what refers to other keys, as in split_seed=${seed}, before the folder recorded it.
    referring = tuple(value.partition("=")[0] + "=" for value in overrides if "${" in value)
    free = (*MAY_DIFFER, *referring)
    ours, theirs = ({value for value in values if not value.startswith(free)} for values in (overrides, before))
    if ours != theirs:
        raise SettingError(
            str(run_dir),
            f"holds a job with other overrides ({', '.join(sorted(ours ^ theirs))} differ): start the sweep as it was "
            "begun, or in a new hydra.sweep.dir",
        )


def _run(program: Sequence[str], overrides: Sequence[str], run_dir: Path, cwd: str | Path | None) -> None:
    if is_begun(run_dir):
        changes = [override for override in overrides if override.startswith(("trainer.", "logger.", "trust="))]
        arguments = [f"resume={quoted(run_dir)}", *changes]
    else:
        arguments = [*overrides, f"hydra.run.dir={quoted(run_dir)}"]
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    if sys.stdout.isatty():  # the width of its tables
        inherited.setdefault("COLUMNS", str(shutil.get_terminal_size().columns))
    job = warm.start(program, arguments, cwd, {**inherited, IS_JOB: "1"})
    last: deque[str] = deque(maxlen=LAST_LINES)
    reader = threading.Thread(target=_pass_on, args=(job.stdout, last), daemon=True)
    reader.start()
    ended = threading.Event()
    threading.Thread(target=_end_with_sweep, args=(job, ended), daemon=True).start()
    try:
        with Signals(lambda _: _signal_group(job, signal.SIGKILL)):
            code = job.wait()
    except BaseException as error:
        # The job alone, which tells its ranks and workers.
        job.tell(error.number if isinstance(error, Stopped) else signal.SIGTERM)
        with suppress(TimeoutError):
            job.wait(PATIENCE)
        raise
    finally:
        ended.set()
        # End ranks and loader workers that outlived the job.
        _signal_group(job, signal.SIGKILL)
        job.wait()
        reader.join(PATIENCE)
        job.close()
    told = told_by(code)
    if told is not None:
        raise Stopped(told)
    failure = run_dir / FAILURE
    failure.unlink(missing_ok=True)
    if code == 0 and (run_dir / "results.json").exists():
        return
    record = {"overrides": list(overrides), "exit_code": code, "last_lines": list(last)}

    write_whole(failure, (json.dumps(record, indent=2) + "\n").encode())
    print(f"job failed with exit code {code}, see {failure}: {' '.join(overrides)}", file=sys.stderr, flush=True)


def _end_with_sweep(job: warm.Job, ended: threading.Event) -> None:
    """Ends the job and this process once the sweep on this machine is gone; a launcher's process would outlive it."""
    host, _, sweep = os.environ.get(SWEEP, "").partition(" ")
    if host != socket.gethostname() or int(sweep) == os.getpid():
        return
    while not ended.wait(1.0):
        if _is_gone(int(sweep)):
            _signal_group(job, signal.SIGKILL)
            end_at_once(1)


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return False  # no /proc: not Linux
    return state == "Z"  # it has ended, and its parent has not collected the exit code


def _pass_on(source: IO[str], last: deque[str]) -> None:
    """Passes on what a job prints; the lines of a table in one piece, whatever other jobs print meanwhile."""
    held: list[str] = []
    for line in source:
        last.append(line.rstrip("\n"))
        held.append(line)
        if not line.startswith(OF_TABLES):
            sys.stdout.write("".join(held))
            sys.stdout.flush()
            held.clear()
    sys.stdout.write("".join(held))
    sys.stdout.flush()


def _signal_group(job: warm.Job, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(job.pid, number)
