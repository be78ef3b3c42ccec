"""Writes docs/reliability.md from what the tests of this folder counted: `make test-reliability`.

python tests/reliability/page.py RESULTS.xml... docs/reliability.md

Several files of results are added up: the tests of one file may have run apart from the others'.
"""

import sys
import xml.etree.ElementTree as ET  # our own file, which pytest has just written
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PROMISES = {
    "test_overrides": "malformed command lines, by a walk over the configuration of every choice: each is refused "
    "in one sentence that names the key, before anything is built, and no file is left",
    "test_kills": "`kill -9` at a random moment or in the middle of a write, temporary files on another file system, "
    "one rank and two: the resumed run ends in the same bits",
    "test_checkpoints": "checkpoints cut short, with a bit changed, empty, foreign: never used, the one before is "
    "taken",
    "test_disks": "a disk that is full at every single write, folders of any name, vanished data, dead workers, no "
    "terminal, other languages: one sentence, and the last good state is there",
    "test_signals": "SIGTERM, SIGUSR1 and SIGINT in every stage, to one rank or all; ranks that die: the run stops, "
    "says how to go on, and no process is left",
    "test_strangers": "recipes, configurations, pickles, archives and lists that try to execute, or to read or "
    "write outside: nothing happens, and one sentence says why",
    "test_fuzzing": "random, deep and large contents of every file that is read: a value or one sentence",
    "test_soak": "sixty runs in one sweep: no process, thread or descriptor is left, and the memory is flat",
}
HEAD = """# Reliability

A run finishes, or ends in one sentence that says what to do and an exit code that is not 0. It loses at most the
current epoch. A file from elsewhere executes nothing. These tests hold it to that; `make test-reliability` runs them
and writes this page. CI runs the short ones.

| tests | what is tried | tests passed | failed | skipped | cases counted in them |
| --- | --- | --: | --: | --: | --- |
"""


def table(sources: Iterable[Path]) -> str:
    """The page."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in PROMISES}
    cases: dict[str, Counter[str]] = {name: Counter() for name in PROMISES}
    for case in (case for source in sources for case in ET.parse(source).iter("testcase")):
        name = str(case.get("classname")).rpartition(".")[2]
        tags = {child.tag for child in case}
        ended = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        counts[name][ended] += 1
        for found in case.iter("property"):
            cases[name][str(found.get("name"))] += int(str(found.get("value")))
    rows = []
    for name, promise in PROMISES.items():
        if not counts[name]:
            rows.append(f"| `{name}.py` | {promise} | not run | | | |")
            continue
        counted = ", ".join(f"{number:,} {kind}" for kind, number in cases[name].items())
        numbers = " | ".join(str(counts[name][ended]) for ended in ("passed", "failed", "skipped"))
        rows.append(f"| `{name}.py` | {promise} | {numbers} | {counted} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    *sources, page = map(Path, sys.argv[1:])
    page.write_text(table(sources), encoding="utf-8")
