"""The process that begins each job of a sweep as a copy of itself: the other side of `drolt_pl.run.warm`."""

import atexit
import gc
import importlib
import os
import runpy
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from drolt_pl.run.warm import IMPORTS, OURS, receive, send


def serve(connection: socket.socket) -> list[str] | None:
    """Serves requests until the sockets close; in a job, returns its words at once."""
    with connection:
        while True:
            try:
                request, streams = receive(connection)
            except (ConnectionError, EOFError):
                return None
            job = os.fork()
            if job == 0:
                break
            for stream in streams:
                os.close(stream)
            with suppress(ConnectionError):
                send(connection, {"pid": job})
            _, status = os.waitpid(job, 0)
            with suppress(ConnectionError):
                send(connection, {"code": os.waitstatus_to_exitcode(status)})
    return _become(request, *streams)


def _become(request: Mapping[str, object], stdin: int, stdout: int) -> list[str]:
    """Makes this process the one that the request describes."""
    os.setsid()
    for stream, numbers in ((stdin, [0]), (stdout, [1, 2])):
        for number in numbers:
            os.dup2(stream, number)
        os.close(stream)
    environment, words = request["environment"], request["words"]
    assert isinstance(environment, dict)
    assert isinstance(words, list)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["cwd"]))
    return [str(word) for word in words]


def _run(words: Sequence[str]) -> int:
    """Runs a script or a module as its own interpreter would, and returns the exit code; an exception is not caught."""
    try:
        if words[0] == "-m":
            sys.argv = list(words[1:])
            sys.path[0] = str(Path.cwd())
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            sys.path[0] = str(Path(words[0]).resolve().parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            raise  # a message, which the interpreter prints
        return ended.code or 0
    return 0


def _end(code: int) -> NoReturn:
    """Ends this process as `multiprocessing` ends a fork: to take down every imported module would take two seconds."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads any more
            stream.flush()
    os._exit(code & 0xFF)


def main() -> None:
    """The server, and then, in each copy of it, a job."""
    for name in IMPORTS if os.environ.get(OURS) else ():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported is no garbage; a job that looked would copy its pages
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        code = 0 if words is None else _run(words)
    except BaseException:
        gc.unfreeze()  # so that the interpreter, which tells what it was, ends as always
        raise
    _end(code)


if __name__ == "__main__":
    main()
