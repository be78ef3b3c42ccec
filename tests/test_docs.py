"""The documentation: every figure has its command below it, and the site builds strictly and needs no network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import HOME

DOCS = HOME / "docs"
COMMANDS = (r"`python docs/figures/[\w.]+\.py`", r"`?drolt (results|sweep|figure|report)\b", r"python -m drolt_pl ")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_figure_has_its_command_below_it(page: Path) -> None:
    lines = page.read_text().splitlines()
    for place, line in enumerate(lines):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", line):
            assert (page.parent / picture).is_file(), picture
            below = "\n".join(lines[place : place + 8])
            assert any(re.search(command, below) for command in COMMANDS), f"{page.name}: {picture}"


def test_commands_that_draw_figures_exist() -> None:
    named = re.findall(r"python (docs/figures/[\w.]+\.py)", "\n".join(page.read_text() for page in DOCS.glob("*.md")))
    assert named
    assert all((HOME / name).is_file() for name in named)


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=HOME, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*>', text)
        assert not [source for source in loaded if "//" in source.replace("file://", "")], page
