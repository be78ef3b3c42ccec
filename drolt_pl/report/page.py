"""RESULTS.md, the pages and figures behind it, and the tables of README.md, all rendered from kept runs."""

import re
import textwrap
from pathlib import Path

import jinja2

from drolt_pl import escape
from drolt_pl.errors import SettingError
from drolt_pl.report.aggregate import CONTROL, Row, Table, load_runs, tables
from drolt_pl.report.dots import dot_table, draw_dots
from drolt_pl.report.evidence import JOINT, joint_view, pair_view
from drolt_pl.report.questions import Question, load_questions
from drolt_pl.report.views import table_view

MARKED = re.compile(r"(<!-- ([\w-]+)((?: [\w.:/-]+)*):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)
DIFFERENCES = "differences"
PAIRS = "pairs"


def render_results(root: str | Path, pages: str = "docs/results") -> str:
    """Renders RESULTS.md from all kept runs under a folder; the same files give the same text.

    Args:
        root: The folder of the kept runs, with or without a questions.yaml.
        pages: Where the pages and figures lie, seen from the text; empty: beside it.

    Raises:
        SettingError: no runs, runs that cannot be read, or one experiment kept twice with the same seeds.
    """
    opening, questions = load_questions(root)
    return template("results.md.j2").render(
        opening=opening,
        differences=_differences(questions),
        questions=[_question(question, pages) for question in questions],
        pages=f"{pages}/" if pages else "",
        root=escape.markdown(Path(root).name),
    )


def render_pages(root: str | Path) -> dict[str, str]:
    """The pages behind RESULTS.md and the numbers of its figures, by file name.

    Raises:
        SettingError: as `render_results`.
    """
    texts = {"index.md": render_results(root, "")}
    for question in load_questions(root)[1]:
        name = question.words.folder
        texts[f"{name}.md"] = template("runs.md.j2").render(**_question(question, ""))
        texts |= {f"{stem}.csv": dot_table(table.rows) for stem, table in _figures(question).items()}
    return texts


def draw_figures(root: str | Path, folder: Path) -> None:
    """Draws the figures of the pages as SVG into a folder.

    Raises:
        SettingError: as `render_results`.
    """
    for question in load_questions(root)[1]:
        for stem, table in _figures(question).items():
            draw_dots(table.rows, folder / f"{stem}.svg")


def render_readme(text: str, root: str | Path) -> str:
    """Replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` by the tables of root/NAME.

    ``<!-- NAME ROW ROW:begin -->`` takes the runs of root/NAME/ROW alone. Three names stand for something else:

    - ``differences``: the sentence about DRO-LT and its control.
    - ``pairs NAME/ROW:OTHER ...``: the differences between the runs of root/NAME/ROW and of OTHER, paired by seeds.
    - ``joint NAME/ROW ...``: what the joint stage of the runs of root/NAME/ROW measured.

    Raises:
        SettingError: there is no such pair of markers, or a folder without kept runs.
    """
    if not MARKED.search(text):
        raise SettingError("readme", "must hold a line <!-- NAME:begin --> and, below it, <!-- NAME:end -->")

    def fragment(match: re.Match[str]) -> str:
        if match[2] == DIFFERENCES:
            return f"{match[1]}{_differences(load_questions(root)[1])}\n{match[4]}"
        if match[2] == PAIRS:
            pairs = [pair_view(root, pair) for pair in match[3].split()]
            return match[1] + template("pairs.md.j2").render(pairs=pairs) + match[4]
        if match[2] == JOINT:
            rows = [joint_view(Path(root) / name) for name in match[3].split()]
            return match[1] + template("joint.md.j2").render(rows=rows) + match[4]
        folder, names = Path(root) / match[2], match[3].split()
        runs = [run for run in load_runs(folder) if not names or Path(run.path).relative_to(folder).parts[0] in names]
        if not runs:
            raise SettingError("readme", f"names rows that {folder} does not hold: {', '.join(names)}")
        pages = [table_view(table) for table in tables(runs)]
        return match[1] + template("fragment.md.j2").render(tables=pages) + match[4]

    return MARKED.sub(fragment, text)


def template(name: str) -> jinja2.Template:
    """A template of this package; what it shows is escaped where the template is of HTML."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=name.endswith(".html.j2"),  # Markdown has its own: drolt_pl.escape
    ).get_template(name)


def _question(question: Question, pages: str) -> dict[str, object]:
    words = question.words
    # The answers' links are those of RESULTS.md; the pages lie deeper.
    answer = words.answer if pages else words.answer.replace("](docs/", "](../")
    figures = _figures(question)
    return {
        "folder": escape.markdown(words.folder),
        "name": words.name,
        "question": words.question,
        "answer": answer.strip(),
        "shown": words.table,
        "runs": sum(len(row.runs) for table in question.tables for row in table.rows),
        "tables": [{**table_view(table), "figure": stem} for stem, table in zip(figures, question.tables, strict=True)],
    }


def _figures(question: Question) -> dict[str, Table]:
    """The tables of a question by the name of their figure."""
    name, found = question.words.folder, question.tables
    return {name if len(found) == 1 else f"{name}_{place}": table for place, table in enumerate(found, 1)}


def _differences(questions: list[Question]) -> str:
    """The sentence about plain DRO-LT and its control in each setting that has both; empty where none has."""
    texts = []
    for question in questions:
        for table in question.tables:
            control = table.references.get(CONTROL)
            plain = next((row for row in table.rows if _is_plain(row)), None)
            found = None if plain is None or control is None else plain.minus(control)
            if found is not None and question.words.table:
                error = "" if found.error is None else f" ± {100 * found.error:.1f}"
                seeds = f"{found.n} seed{'s' * (found.n > 1)}"
                texts.append(f"{100 * found.mean:+.1f}{error} on {question.words.name} ({seeds})")
    start = f"DRO-LT minus its control (`{CONTROL}`: no robust loss, the same stages), in points and paired by seed"
    text = f"{start}, mean ± standard error: {'; '.join(texts)}."
    return textwrap.fill(text, 120, break_on_hyphens=False) if texts else ""


def _is_plain(row: Row) -> bool:
    return row.runs[0].results.method == "dro_lt" and not row.config
