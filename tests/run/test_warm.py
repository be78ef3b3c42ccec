"""Jobs of a sweep are copies of a process that has imported what they need."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.running import HOME

from drolt_pl.run import warm


@pytest.fixture(scope="module")
def server() -> Iterator[warm.Server]:
    server = warm.Server(sys.executable)
    yield server
    server.close()
    assert not server.lives()


def run(server: warm.Server, folder: Path, text: str, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    """The exit code of a script, and the lines that it prints."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    job = server.start([str(script), *arguments], folder, {**os.environ, **environment})
    lines = job.stdout.read().splitlines()
    code = job.wait()
    job.close()
    return code, lines


def test_a_job_is_as_its_own_interpreter_would_run_it(server: warm.Server, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    code, lines = run(
        server,
        tmp_path,
        """
        import atexit, beside, os, sys, threading, time
        assert __name__ == "__main__" and sys.modules["__main__"].__file__ == __file__
        print(sys.argv[1:], os.environ["HERE"], os.getcwd(), beside.NAME)
        print(os.getpid() == os.getsid(0) == os.getpgrp(), file=sys.stderr)
        atexit.register(print, "at exit")
        threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
        left_open = open("written.txt", "w")
        left_open.write("whole")
        """,
        "a b",
        "é",
        HERE="there",
    )
    assert code == 0
    assert lines == [f"['a b', 'é'] there {tmp_path} beside", "True", "thread", "at exit"]
    assert (tmp_path / "written.txt").read_text() == "whole"
    assert "HERE" not in os.environ


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("raise RuntimeError('diverged')", 1, "RuntimeError: diverged"),
        ("import sys; sys.exit(3)", 3, None),
        ("import sys; sys.exit(256 + 3)", 3, None),
        ("print('no end of line', end='')", 0, "no end of line"),
        ("import sys; sys.exit('a sentence')", 1, "a sentence"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, None),
        ("import signal; signal.raise_signal(signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt"),
        ("import os; os._exit(7)", 7, None),
    ],
)
def test_exit_codes(text: str, code: int, line: str | None, server: warm.Server, tmp_path: Path) -> None:
    ended, lines = run(server, tmp_path, text)
    assert ended == code
    assert (lines or [None])[-1] == line


def test_jobs_share_nothing(server: warm.Server, tmp_path: Path) -> None:
    text = """
    import logging, os, random, sys
    print(hasattr(logging, "left"), "LEFT" in os.environ, "left" in sys.path, random.random())
    logging.left = os.environ["LEFT"] = "x"
    sys.path.append("left")
    """
    first, second = (run(server, tmp_path, text)[1][0].split() for _ in range(2))
    assert first[:3] == second[:3] == ["False"] * 3
    assert first[3] != second[3]


def test_a_missing_folder_is_the_jobs_failure(server: warm.Server, tmp_path: Path) -> None:
    job = server.start(["script.py"], tmp_path / "none", os.environ)
    assert "FileNotFoundError" in job.stdout.read()
    assert job.wait() == 1
    job.close()
    assert run(server, tmp_path, "print('next')") == (0, ["next"])


def test_a_job_whose_server_is_gone_has_failed(tmp_path: Path) -> None:
    server = warm.Server(sys.executable)
    (tmp_path / "script.py").write_text("import sys; sys.stdin.read()")
    job = server.start([str(tmp_path / "script.py")], tmp_path, os.environ)
    with pytest.raises(TimeoutError):
        job.wait(0.05)
    server._process.kill()
    assert job.wait() == -signal.SIGKILL
    job.close()  # and its standard input, which ends it
    server.close()


@pytest.mark.slow
def test_what_is_imported_initialises_nothing() -> None:
    code = """
    import importlib, os, torch
    torch._C._cuda_getDeviceCount = None  # whoever asks the driver before the fork spoils the device for the copies
    from drolt_pl.run import warm
    for name in warm.IMPORTS:
        importlib.import_module(name)
    print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized())
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(words, cwd=HOME, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "False"]


def test_a_server_has_the_environment_of_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it imports for them reads it: with the variable that a sweep sets for Hydra, jobs would show tracebacks."""
    monkeypatch.setattr(warm, "_servers", {})
    environment = {**os.environ, "DROLT_WARM": ""}
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    script = tmp_path / "script.py"
    script.write_text("import os; print('HYDRA_FULL_ERROR' in open(f'/proc/{os.getppid()}/environ').read())")
    job = warm.start([sys.executable], [str(script)], tmp_path, environment)
    assert job.stdout.read() == "False\n"
    assert job.wait() == 0
    job.close()
    for server in warm._servers.values():
        server.close()
