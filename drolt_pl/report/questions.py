"""Groups kept runs by the question that they answer: a folder of `results/` each, in the order of questions.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from drolt_pl import escape
from drolt_pl.errors import SettingError
from drolt_pl.folders import MAX_YAML, parse_yaml
from drolt_pl.records import Record
from drolt_pl.regular import read_text
from drolt_pl.report.aggregate import KeptRun, Table, load_runs, tables

FILE = "questions.yaml"


class Words(Record):
    """What questions.yaml says of a folder of kept runs.

    Attributes:
        folder: Its name under the root.
        name: A short name of the setting.
        question: The question that its runs answer.
        answer: The answer, in Markdown; the numbers stand in the table below it.
        table: Whether RESULTS.md has its table and figure, or its page alone.
    """

    folder: str
    name: str
    question: str
    answer: str = ""
    table: bool = True


class Opening(Record):
    """The whole of questions.yaml: the first paragraph of RESULTS.md, and the folders in their order."""

    opening: str = ""
    questions: Sequence[Words] = ()


@dataclass(frozen=True)
class Question:
    """A folder of kept runs with its words."""

    words: Words
    tables: Sequence[Table]


def load_questions(root: str | Path) -> tuple[str, list[Question]]:
    """The first paragraph, and the folders under a root: those of questions.yaml first, then the others by name.

    Raises:
        SettingError: there are no kept runs, or a file cannot be read.
    """
    opening = _opening(Path(root) / FILE)
    by_folder: dict[str, list[KeptRun]] = {}
    for run in load_runs(root):
        inside = Path(run.path).relative_to(Path(root).as_posix()).parts
        by_folder.setdefault(inside[0] if len(inside) > 1 else Path(root).name, []).append(run)
    listed = {words.folder: words for words in opening.questions}
    names = [*(name for name in listed if name in by_folder), *sorted(by_folder.keys() - listed.keys())]
    return opening.opening.strip(), [
        Question(listed.get(name) or _wordless(name), tables(by_folder[name])) for name in names
    ]


def _wordless(folder: str) -> Words:
    text = escape.markdown(folder)
    return Words(folder=folder, name=text, question=text)


def _opening(path: Path) -> Opening:
    if not path.exists():
        return Opening()
    content = parse_yaml(read_text(path, "YAML", MAX_YAML), path)
    try:
        return TypeAdapter(Opening).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise SettingError(f"{field} in {path}", first["msg"].replace("Input should", "must")) from error
