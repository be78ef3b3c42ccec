"""Draws docs/figures/terminal.svg: what `python train.py` prints, shortened, recorded by rich.

python docs/figures/terminal.py          # trains the embedded digits first, under two minutes
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HOME = Path(__file__).resolve().parents[2]
WIDTH = 106
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SHOWN = 3  # epochs of each stage, its last


def shortened(lines: list[str]) -> list[str]:
    """The lines with the last epochs of each stage alone."""
    stages = [match[1] if (match := re.match(r"(\w+) \d+/\d+ ", line)) else None for line in lines]
    kept: list[str] = []
    for place, (line, stage) in enumerate(zip(lines, stages, strict=True)):
        left = stages[place:].count(stage)
        if stage is None or left <= SHOWN:
            kept.append(line)
        elif kept[-1] != "...":
            kept.append("...")
    return kept


def styled(line: str) -> Text:
    text = Text(line, no_wrap=True)
    text.highlight_regex(r"^(data|network|stage \w+):", "bold cyan")
    text.highlight_regex(r"^(ce_warmup|joint|rebalance)(?= \d)", "bold green")
    text.highlight_regex(r"\d+\.\d+", "yellow")
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(HOME / "train.py"), "trainer=cpu", "hydra.run.dir=outputs/DAY/TIME"],
            cwd=folder, env={**os.environ, "COLUMNS": str(WIDTH)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines = done.stdout.replace(f"{os.path.realpath(folder)}/", "").splitlines()
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text("$ python train.py", style="bold"))
    for line in shortened(lines):
        console.print(styled(line))
    svg = console.export_svg(title="python train.py", unique_id="terminal")
    # No font from the network: the reader's monospaced one.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", svg)
    (HOME / "docs" / "figures" / "terminal.svg").write_text(svg)


if __name__ == "__main__":
    main()
