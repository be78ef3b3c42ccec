"""A process that has imported what training needs, and begins each job of a sweep as a copy of itself.

A job that a new interpreter runs imports torch first, which takes seconds. The server imports it once and initialises
nothing: no device, no random state, no thread of torch. It forks for each job, and the copy becomes what
`subprocess.Popen` would have started: a leader of its own session with its own environment, working folder, streams and
`sys.argv`.

Its messages are JSON over a pair of sockets: a request with the job's streams, and for it the process number, then the
exit code. One job runs at a time.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

COMMAND = "drolt_pl.cli.train"
# What a run of that command imports before its first step.
IMPORTS = (COMMAND, "drolt_pl.run.train", "torchvision.transforms.v2", "sklearn.datasets")
OURS = "DROLT_WARM"  # set in the environment of a sweep of that command; another application imports its own
PACKAGES = Path(__file__).resolve().parents[2]  # where this package lies; another may be installed
LONGEST = 1 << 24  # bytes of a message


class Server:
    """Starts the server, and jobs by it; one for the life of this process.

    Args:
        python: The interpreter.
        environment: Of the server, which what it imports for its jobs may read; by default this process's.
    """

    def __init__(self, python: str, environment: Mapping[str, str] = os.environ) -> None:
        self.python = python
        self._socket, theirs = socket.socketpair()
        words = [python, "-m", "drolt_pl.run.warm_server", str(theirs.fileno())]
        with theirs:
            path = os.pathsep.join(filter(None, [str(PACKAGES), environment.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                words,
                env={**environment, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which tells the job
            )
        atexit.register(self.close)

    def lives(self) -> bool:
        """Whether it can start a job."""
        return self._process.poll() is None

    def start(self, words: Sequence[str], cwd: str | Path | None, environment: Mapping[str, str]) -> "Job":
        """Starts a job.

        Args:
            words: A script or `-m MODULE`, and its arguments.
            cwd: Its working folder; None: this process's.
            environment: All of its environment.
        """
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        request = {"words": list(words), "cwd": str(cwd or Path.cwd()), "environment": dict(environment)}
        try:
            send(self._socket, request, [read_in, write_out])
        except BaseException:
            os.close(write_in)
            os.close(read_out)
            raise
        finally:
            os.close(read_in)
            os.close(write_out)
        return Job(self._socket, write_in, read_out)

    def close(self) -> None:
        """Ends the server; a job ends with it."""
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()


class Job:
    """A job that a server has started.

    Attributes:
        pid: Its process, the leader of its group.
        stdout: What it prints, its error stream included.
    """

    def __init__(self, connection: socket.socket, stdin: int, stdout: int) -> None:
        self._socket, self._stdin = connection, stdin
        self.stdout: IO[str] = os.fdopen(stdout, "r", encoding="utf-8", errors="replace")
        self.code: int | None = None
        message, _ = receive(connection)
        self.pid = _number(message, "pid")

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; minus the signal that ended it.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
        """
        if self.code is None:
            self._socket.settimeout(timeout)
            try:
                message, _ = receive(self._socket)
            except TimeoutError:
                raise
            except (ConnectionError, EOFError):
                message = {"code": -signal.SIGKILL}  # the server is gone
            finally:
                self._socket.settimeout(None)
            self.code = _number(message, "code")
        return self.code

    def tell(self, number: int) -> None:
        """Sends the job itself a signal, and not its group."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Closes its streams."""
        os.close(self._stdin)
        self.stdout.close()


_servers: dict[str, Server] = {}


def start(
    program: Sequence[str], arguments: Sequence[str], cwd: str | Path | None, environment: Mapping[str, str]
) -> Job:
    """Starts a job in the server of its interpreter, which is started before if there is none.

    Args:
        program: The interpreter, then a script or `-m MODULE`.
        arguments: The job's own.
        cwd: Its working folder; None: this process's.
        environment: All of its environment.
    """
    python, *words = program
    server = _servers.get(python)
    if server is None or not server.lives():
        server = _servers[python] = Server(python, environment)
    return server.start([*words, *arguments], cwd, environment)


def _number(message: Mapping[str, object], key: str) -> int:
    value = message[key]
    assert isinstance(value, int)
    return value


def send(connection: socket.socket, message: Mapping[str, object], streams: Sequence[int] = ()) -> None:
    """Sends a message, and streams with it."""
    content = json.dumps(message).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], streams)
    connection.sendall(content)


def receive(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    """A message and its streams.

    Raises:
        EOFError: the other side is gone.
    """
    head, streams, _, _ = socket.recv_fds(connection, 8, 2)
    length = int.from_bytes(head, "big")
    if len(head) < 8 or length > LONGEST:
        raise EOFError
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise EOFError
        content += part
    message: dict[str, object] = json.loads(content)
    return message, streams
