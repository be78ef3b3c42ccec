"""Photographs docs/assets/report.png: the top of the page that `python train.py` leaves, in Chromium.

python docs/figures/report.py            # trains the embedded digits first, under two minutes
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, sync_playwright

HOME = Path(__file__).resolve().parents[2]
PICTURE = HOME / "docs" / "assets" / "report.png"
WIDTH, HEIGHT = 1000, 1070
SHOWN = "shown"  # what the picture says of itself: a test compares it with a page of today
TEXTS = "h1, h3, th, td:first-child, .role-legend-label text"


def shown(page: Page) -> list[str]:
    """Headings, columns, rows and legends that the picture has."""
    found: list[str] = page.evaluate(
        "([texts, height]) => [...document.querySelectorAll(texts)]"
        ".filter((one) => one.getBoundingClientRect().bottom < height).map((one) => one.textContent)",
        [TEXTS, HEIGHT],
    )
    return found


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HOME / "train.py"), "trainer=cpu", "hydra.run.dir=run"]
        subprocess.run(command, cwd=folder, env=os.environ, stdout=subprocess.DEVNULL, check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page.goto((Path(folder) / "run" / "report.html").as_uri(), timeout=120_000)
            page.wait_for_function("document.body.dataset.drawn")
            page.screenshot(path=PICTURE)
            texts = shown(page)
            browser.close()
    about = PngImagePlugin.PngInfo()
    about.add_text(SHOWN, json.dumps(texts))
    with Image.open(PICTURE) as picture:
        picture.convert("RGB").quantize(256).save(PICTURE, pnginfo=about, optimize=True)


if __name__ == "__main__":
    main()
