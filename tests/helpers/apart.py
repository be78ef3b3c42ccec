"""`apart.py FILE WORDS`: does what `python WORDS` would, with its error stream in a file of its own."""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    _, stream, *words = sys.argv
    os.dup2(os.open(stream, os.O_WRONLY), sys.stderr.fileno())
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")
