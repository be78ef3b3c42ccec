"""Hooks of the documentation's site: pages that lie outside docs/, links out of it, and Mermaid as inline SVG."""

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1]
# Pages and pictures from elsewhere in the repository, by their place in the site.
FROM_ELSEWHERE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
PLACES = {source: place for place, source in FROM_ELSEWHERE.items()} | {"RESULTS.md": "results/index.md"}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
MERMAID = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
WIDTH, HEIGHT, GAP = 108, 30, 62


SHIM = re.compile(r'<script src="https://unpkg.com/iframe-worker[^"]*"></script>')


def on_config(config: Any) -> Any:
    """Leaves pages out of the navigation that are not written yet."""
    config.nav = [part for part in map(written, config.nav) if part]
    return config


def written(part: Any) -> Any:
    """A part of the navigation without the pages that do not exist."""
    if isinstance(part, str):
        exists = part in FROM_ELSEWHERE or (HOME / "docs" / part).exists()
        return part if exists else None
    (title, inside), *_ = part.items()
    kept = [found for found in map(written, inside) if found] if isinstance(inside, list) else written(inside)
    return {title: kept} if kept else None


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """The roles of Sphinx in docstrings become the name that they refer to."""
    return re.sub(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>", r"<code>\1</code>", html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The script that lets a file search comes from the site itself, and not from the network."""
    return SHIM.sub(f'<script src="{relative("assets/worker.js", page.file.dest_uri)}"></script>', output)


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same of pages that belong to no file, such as 404.html."""
    return SHIM.sub('<script src="assets/worker.js"></script>', output_content)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from elsewhere."""
    from mkdocs.structure.files import File

    for place, source in FROM_ELSEWHERE.items():
        files.append(File.generated(config, place, abs_src_path=str(HOME / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Points links to where their targets are in the site, and draws flowcharts."""
    place = page.file.src_uri
    source = HOME / FROM_ELSEWHERE.get(place, f"docs/{place}")
    inside = {file.src_uri for file in files}

    def target(match: re.Match[str]) -> str:
        path = (source.parent / match[1]).resolve()
        if not path.exists():
            return match[0]  # mkdocs says that it is not there
        name = path.relative_to(HOME).as_posix()
        found = PLACES.get(name, name.removeprefix("docs/"))
        if found not in inside:
            return match[0]
        return relative(found, place) + (match[2] or "")

    markdown = LINK.sub(target, markdown)
    # A file of the repository that is no page: its name alone.
    markdown = re.sub(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)*[\w./-]+)\)", outside_as_text(source, inside), markdown)
    return MERMAID.sub(lambda match: flowchart(match[1]), markdown)


def outside_as_text(source: Path, inside: set[str]) -> Callable[[re.Match[str]], str]:
    """Links to files of the repository that the site does not have become their text."""

    def replaced(match: re.Match[str]) -> str:
        path = (source.parent / match[2]).resolve()
        name = path.relative_to(HOME).as_posix() if path.is_relative_to(HOME) else ""
        gone = path.exists() and not name.startswith("docs/") and name not in PLACES
        return match[1] if gone else match[0]

    return replaced


def relative(target: str, place: str) -> str:
    """The path from one page of the site to another."""
    return "../" * place.count("/") + target


def flowchart(text: str) -> str:
    """The arrows `a & b --> c & d` of a Mermaid flowchart as SVG: who points to others stands above them."""
    arrows = [
        (start, end)
        for starts, ends in re.findall(r"^ *([\w &]+?) --> ([\w &]+)$", text, flags=re.MULTILINE)
        for start in starts.split(" & ")
        for end in ends.split(" & ")
    ]
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    row = dict.fromkeys(names, 0)
    for _ in names:  # the longest way from the top
        for start, end in arrows:
            row[end] = max(row[end], row[start] + 1)
    rows = [[name for name in names if row[name] == level] for level in range(max(row.values()) + 1)]
    whole = max(map(len, rows)) * (WIDTH + 28)
    middle = {
        name: ((place + 0.5) * whole / len(level), number * (HEIGHT + GAP) + HEIGHT / 2 + 2)
        for number, level in enumerate(rows)
        for place, name in enumerate(level)
    }
    lines = [
        f'<line x1="{middle[a][0]:.0f}" y1="{middle[a][1] + HEIGHT / 2:.0f}" x2="{middle[b][0]:.0f}" '
        f'y2="{middle[b][1] - HEIGHT / 2 - 3:.0f}" marker-end="url(#tip)"/>'
        for a, b in arrows
    ]
    boxes = [
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(name)}</text>'
        for name, (x, y) in middle.items()
    ]
    tall = len(rows) * (HEIGHT + GAP) - GAP + 6
    return (
        f'<svg class="rooms" viewBox="0 0 {whole:.0f} {tall:.0f}" xmlns="http://www.w3.org/2000/svg" role="img">'
        "<style>.rooms{width:100%;color:var(--md-default-fg-color)}.rooms line{stroke:currentColor;opacity:.45}"
        ".rooms rect{fill:var(--md-default-bg-color);stroke:currentColor}"
        ".rooms text{fill:currentColor;font:11px sans-serif;text-anchor:middle}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>' + "".join(lines + boxes) + "</svg>"
    )
