"""report.html: one file that says what a run or a sweep came to, drawn by a browser without a network."""

import base64
import csv
import io
import itertools
import json
import re
import runpy
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pytest
from helpers.running import HOME, composed, train_composed
from PIL import Image
from typer.testing import CliRunner

from drolt_pl.cli.app import app
from drolt_pl.errors import SettingError
from drolt_pl.learning.diagnostics import MAX_CONFUSION
from drolt_pl.report.charts import MOST_BARS
from drolt_pl.report.html import leave_report, write_report
from drolt_pl.report.tail import NAME, SIDE, Confused, Tail, Taken, most_confused
from drolt_pl.results import Results, write_per_class

ONE = [f"schedule.stages.{stage}.epochs=1" for stage in ("ce_warmup", "joint", "rebalance")]
CHARTS = 9  # of a run of one joint epoch, over which no centroid has drifted
HOSTILE = ("<script>window.hit=1</script>", "\x1b[31mred", "\"q'</script>", "‮drow", "عربي", "${x}{{y}}")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    train_composed(folder, "trainer=cpu", *ONE)
    return folder


def with_classes(source: Path, target: Path, names: list[str]) -> Path:
    """A run's folder whose classes are others."""
    shutil.copytree(source, target)
    results = Results.load(target / "results.json")
    counts = [max(500 - 2 * place, 5) for place in range(len(names))]
    per_class = [place % 10 / 10 for place in range(len(names))]
    test = results.test.model_copy(update={"per_class": per_class, "per_class_ncm": None})
    changed = results.model_copy(update={"class_counts": counts, "test": test, "eps": None})
    changed.write(target / "results.json")
    write_per_class(target / "per_class.csv", changed, names)
    return target


def sweep_of(source: Path, folder: Path, jobs: int) -> Path:
    """A sweep's folder of so many jobs, each a copy of a run."""
    listed = {str(number): [f"loss.eps={number}"] for number in range(jobs)}
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(listed))
    for name in listed:
        (folder / name).mkdir()
        shutil.copy(source / "results.json", folder / name)
    return folder


def specs(page: str) -> list[str]:
    """The charts of a page, each valid Vega-Lite: writing the page does not check that."""
    found = re.findall(r'<script type="application/json">(.*?)</script>', page)
    for spec in map(json.loads, found):
        assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
        alt.Chart.from_dict(spec)
    return found


def test_a_run_leaves_it(run_dir: Path) -> None:
    page = (run_dir / "report.html").read_text()
    assert "<h1>dro_lt on DigitsLT</h1>" in page
    assert f"drolt predict {run_dir} PHOTOGRAPHS" in page
    assert len(specs(page)) == CHARTS


def test_it_needs_no_network(run_dir: Path) -> None:
    page = (run_dir / "report.html").read_text()
    assert "default-src 'none'" in page  # the browser itself loads nothing
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=(?!\"data:image/jpeg;base64,)", own)


def with_metrics(source: Path, target: Path, rows: list[dict[str, object]]) -> str:
    """The page of a run with another metrics.csv."""
    folder = shutil.copytree(source, target)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "stage_name", *{key for row in rows for key in row}])
        writer.writeheader()
        writer.writerows({"epoch": epoch, "stage_name": "joint", **row} for epoch, row in enumerate(rows))
    return write_report([folder], target / "page.html").read_text()


def charts_of(page: str) -> dict[str, Any]:
    """The charts of a page by their headings."""
    found = re.findall(r'<h3>([^<]*)</h3>\s*<div class="chart".*?<script type="application/json">(.*?)</script>', page)
    return {name: json.loads(spec) for name, spec in found}


def legend(spec: dict[str, Any]) -> list[str]:
    """What the legend of a chart names."""
    layer = spec["layer"][0] if "layer" in spec else spec
    return list(layer["encoding"]["color"]["scale"]["domain"])


def test_a_legend_names_what_the_chart_shows(run_dir: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"train/acc": 0.5, "train/loss": 1, "train/loss_ce": 1, "val/few": 0.1}] * 2
    found = charts_of(with_metrics(run_dir, tmp_path / "a", rows))
    assert legend(found["Accuracy while training"]) == ["train"]
    assert legend(found["Loss"]) == ["loss"], "the cross-entropy is the whole loss"
    assert legend(found["Validation accuracy by group"]) == ["few"]
    mixed = charts_of(with_metrics(run_dir, tmp_path / "b", [{"train/loss": 1, "train/loss_ce": 2}]))
    assert legend(mixed["Loss"]) == ["loss", "cross-entropy"]
    few = charts_of(write_report([with_classes(run_dir, tmp_path / "c", ["a", "b"])], tmp_path / "c.html").read_text())
    assert legend(few["Accuracy by class"]) == ["many"]


def test_ticks_stand_where_a_pass_was_and_epochs_count_from_1(run_dir: Path, tmp_path: Path) -> None:
    seconds = [0.0, 0.5, 0.5, 0.75]  # what passes took so far: in the second and the fourth epoch there was one
    rows: list[dict[str, object]] = [{"train/loss": 1, "time/centroid_s": value} for value in seconds]
    page = with_metrics(run_dir, tmp_path / "a", rows)
    values = [layer["data"]["values"] for layer in charts_of(page)["Loss"]["layer"]]
    assert values[3] == [{"epoch": 2}, {"epoch": 4}]
    assert [row["epoch"] for row in values[0]] == [1, 2, 3, 4]
    assert "each of the 2 epochs with a pass" in page
    without = with_metrics(run_dir, tmp_path / "b", [{"train/loss": 1, "time/centroid_s": 0.0}] * 3)
    assert len(charts_of(without)["Loss"]["layer"]) == 3
    assert "with a pass" not in without


def test_balls_that_hold_no_mean_are_a_sentence(run_dir: Path, tmp_path: Path) -> None:
    name = "Held-out class means in the ball"
    none = with_metrics(run_dir, tmp_path / "a", [{"coverage_held_out/few": 0.0}] * 2)
    assert name not in charts_of(none)
    assert "0 % in every epoch" in none
    some = with_metrics(run_dir, tmp_path / "b", [{"coverage_held_out/few": 0.0}, {"coverage_held_out/few": 0.5}])
    assert name in charts_of(some)
    assert "0 % in every epoch" not in some


@pytest.mark.parametrize("number", [30, MAX_CONFUSION + 1])
def test_what_is_left_out_of_many_classes_is_said(run_dir: Path, tmp_path: Path, number: int) -> None:
    names = [f"class {place}" for place in range(number)]
    folder = with_classes(run_dir, tmp_path / "run", names)
    (folder / "confusion.csv").unlink()
    if number <= MAX_CONFUSION:
        confused(folder, names)
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert "Confusion on the test set" not in charts_of(page)
    said = (
        "The pairs that are confused most are in a table" if number == 30 else f"{MAX_CONFUSION:,} classes records none"
    )
    assert said in re.sub(r"\s+", " ", page)


def test_hostile_names_stay_text(run_dir: Path, tmp_path: Path) -> None:
    folder = pictured(with_classes(run_dir, tmp_path / "run", list(HOSTILE)), list(HOSTILE))
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert HOSTILE[0] not in page
    assert "\x1b" not in page
    assert "‮" not in page


def confused(folder: Path, names: list[str]) -> Path:
    """A run's folder in which every class is taken for the next one, the more often the later it stands."""
    rows = [(name, names[(place + 1) % len(names)], place + 1) for place, name in enumerate(names)]
    rows += [(name, name, 10) for name in names]
    with (folder / "confusion.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "predicted", "images"), *rows])
    return folder


def test_what_is_taken_for_what(run_dir: Path, tmp_path: Path) -> None:
    names = [f"class {place}" for place in range(30)]
    folder = confused(with_classes(run_dir, tmp_path / "run", names), names)
    page = write_report([folder], tmp_path / "page.html").read_text()
    rows = page.partition("What is taken for what")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    texts = re.findall(r"<bdi>(.*?)</bdi>", rows)
    assert len(texts) == 20 * 4
    assert texts[:4] == ["class 29", "class 0", "30", "75.0"]


def test_the_confusion_of_a_run_counts_its_test_images(run_dir: Path) -> None:
    results = Results.load(run_dir / "results.json")
    with (run_dir / "confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(int(row["images"]) for row in rows if row["name"] == row["predicted"])
    assert sum(int(row["images"]) for row in rows) == sum(results.images["test"])
    assert right / sum(results.images["test"]) == pytest.approx(results.test.acc_micro)
    with (run_dir / "calibration.csv").open(newline="") as file:
        bins = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    gaps = sum(found["images"] * abs(found["accuracy"] - found["confidence"]) for found in bins)
    assert gaps / sum(found["images"] for found in bins) == pytest.approx(results.test.ece)


def pictured(folder: Path, names: list[str]) -> Path:
    """A run's folder whose rare classes, with these names, are each taken for the next one."""
    found = Tail.model_validate_json((folder / NAME).read_text()).classes[0].pictures
    rare = [
        Confused(
            name=name,
            train_images=2,
            accuracy=0.1,
            pictures=found,
            taken=Taken(name=names[(place + 1) % len(names)], images=3, pictures=found),
        )
        for place, name in enumerate(names)
    ]
    (folder / NAME).write_text(Tail(classes=rare).model_dump_json())
    return folder


def test_the_rare_classes_that_are_confused_most_are_shown(run_dir: Path) -> None:
    results = Results.load(run_dir / "results.json")
    with (run_dir / "confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = Tail.model_validate_json((run_dir / NAME).read_text()).classes
    assert [found.name for found in shown] == [str(index) for index in most_confused(results)]
    for found in shown:
        wrong = {row["predicted"]: int(row["images"]) for row in rows if row["name"] == found.name != row["predicted"]}
        assert found.taken is not None
        assert found.taken.images == wrong[found.taken.name] == max(wrong.values())
        assert len(found.pictures) == min(3, found.train_images)
        for picture in (*found.pictures, *found.taken.pictures):
            image = Image.open(io.BytesIO(base64.b64decode(picture)))
            assert image.format == "JPEG"
            assert max(image.size) <= SIDE
    page = (run_dir / "report.html").read_text()
    pictures = sum(len(found.pictures) + len(found.taken.pictures) for found in shown if found.taken)
    assert page.count('<img alt="Training image') == pictures


def test_the_least_accurate_come_first_and_equals_by_their_index(run_dir: Path) -> None:
    results = Results.load(run_dir / "results.json")
    accuracies = [0.0, 0.5, 0.25, 0.25, 1.0, None, 0.25, 0.5, 0.75, 0.75]
    test = results.test.model_copy(update={"per_class": accuracies})
    rare = results.model_copy(update={"test": test, "class_counts": [500, *[5] * 9]})
    assert most_confused(rare) == [2, 3, 6, 1, 7, 8]  # the first is frequent, one is always right, one has no image


def test_a_run_without_pictures_says_so_in_a_sentence(run_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_dir, tmp_path / "run")
    (folder / NAME).unlink()
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert "Pictures of rare classes are not at hand" in page
    assert '<img alt="Training image' not in page


@pytest.mark.parametrize("picture", ['"><script>', "data:text/html,x", "A" * 20_001])
def test_what_is_no_picture_is_refused(run_dir: Path, tmp_path: Path, picture: str) -> None:
    folder = shutil.copytree(run_dir, tmp_path / "run")
    wrong = {"name": "a", "train_images": 1, "accuracy": 0.5, "pictures": [picture]}
    (folder / NAME).write_text(json.dumps({"classes": [wrong]}))
    with pytest.raises(SettingError, match=r"classes\.0\.pictures\.0 in .*tail\.json"):
        write_report([folder], tmp_path / "page.html")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("per_class.csv", "class,name\n0,a\n", "must be a table with a column train_images"),
        (
            "per_class.csv",
            "name,train_images,group,acc\na,5,few,1\nb,many,few,1\n",
            "row 2, train_images must be a whole",
        ),
        (
            "per_class.csv",
            "name,train_images,group,acc\na,5,few,nan\n",
            "row 1, acc must be empty or a number in [0, 1]",
        ),
        ("per_class.csv", "name,train_images,group,acc\na,5,few\n", "is no table: a row does not fit the first line"),
        ("per_class.csv", "", "must be a table with a column name"),
        ("calibration.csv", "images,accuracy,confidence\n3,abc,0.5\n", "row 1, accuracy must be a number in [0, 1]"),
        ("calibration.csv", "images,accuracy\n3,0.5\n", "must be a table with a column confidence"),
        ("confusion.csv", "name,predicted,images\na,b,0\n", "row 1, images must be a whole number >= 1"),
        ("confusion.csv", 'name,predicted,images\n"a,b,0\n', "is no table: unexpected end of data"),
        ("confusion.csv", "\0\0\0", "must be a table with a column name"),
        ("metrics.csv", "epoch,stage_name,train/loss\n0,joint,low\n", "row 1, train/loss must be empty or a number"),
        ("metrics.csv", "epoch,train/loss\n0,1\n", "must be a table with a column stage_name"),
    ],
)
def test_a_table_that_is_none_is_one_sentence(run_dir: Path, tmp_path: Path, name: str, text: str, reason: str) -> None:
    folder = shutil.copytree(run_dir, tmp_path / "run")
    (folder / name).write_text(text)
    (folder / "report.html").unlink()
    ended = CliRunner().invoke(app, ["report", str(folder)])
    assert ended.exit_code == 1
    assert f"{folder / name}" in ended.output
    assert reason in ended.output
    assert not (folder / "report.html").exists()


def test_a_loss_that_is_not_finite_is_left_out(run_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_dir, tmp_path / "run")
    (folder / "metrics.csv").write_text("epoch,stage_name,train/loss\n0,joint,nan\n1,joint,inf\n2,joint,0.5\n")
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert not [spec for spec in specs(page) if "NaN" in spec or "Infinity" in spec]  # no JSON has them


def test_a_grid_has_heat_maps_and_a_study_has_optunas_plots(run_dir: Path, tmp_path: Path) -> None:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    jobs = [[f"loss.eps={eps}", f"optimizer.lr={lr}"] for eps in (1, 2, 3) for lr in (0.1, 0.2)]
    folder = sweep_of(run_dir, tmp_path / "sweep", len(jobs))
    (folder / "jobs.json").write_text(json.dumps({str(number): job for number, job in enumerate(jobs)}))
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert "<h3>Validation acc, %</h3>" in page
    assert specs(page)
    assert "data:image/svg+xml" not in page
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize")
    for value in (0.1, 0.2, 0.4):
        trial = {"params": {"loss.eps": 10 * value}, "distributions": {"loss.eps": FloatDistribution(0, 9)}}
        study.add_trial(optuna.trial.create_trial(value=value, **trial))
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml;base64,") >= 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert ended.exit_code == 1
    assert "is no finished run and no sweep" in ended.output
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_fails_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_report(tmp_path)
    assert capsys.readouterr().out.startswith("warning: report.html could not be written (SettingError: ")


def test_runs_beside_each_other_say_where_they_differ(run_dir: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    folders = []
    for seed in (0, 1):
        folders.append(tmp_path / str(seed))
        shutil.copytree(run_dir, folders[-1])
        (folders[-1] / ".hydra").mkdir()
        OmegaConf.save(
            composed(f"seed={seed}", *(["method=ce"] if seed else [])), folders[-1] / ".hydra" / "config.yaml"
        )
    page = write_report(folders, tmp_path / "page.html").read_text()
    rows = page.partition("Where their configurations differ")[2].partition("</tbody>")[0].partition("<tbody>")[2]
    found = [re.findall("<bdi>(.*?)</bdi>", row) for row in rows.split("<tr>")[1:]]
    assert ["seed", "0", "1"] in found
    assert [row for row in found if row[0].startswith("schedule.stages.joint")] == [
        ["schedule.stages.joint", "18 keys", "-"]
    ]


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page, once every chart is drawn."""

    def __init__(self, browser: Any, path: Path, width: int = 1100, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.body.dataset.drawn", timeout=60_000)


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (360, "dark")])
def test_a_browser_draws_all_of_it(width: int, scheme: str, run_dir: Path, browser: Any) -> None:
    opened = Opened(browser, run_dir / "report.html", width, scheme)
    page = opened.page
    assert opened.complaints == []
    assert len(opened.asked) == 1
    charts = page.locator("[data-chart]")
    assert charts.count() == CHARTS
    assert all(charts.nth(place).locator("svg").count() == 1 for place in range(CHARTS))
    headings = page.locator("h3:has(+ [data-chart])").all_inner_texts()
    assert [chart.get_attribute("aria-label") for chart in charts.all()] == headings
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    regions = page.locator(".scroll")
    for place in range(regions.count()):
        region = regions.nth(place)
        cut = region.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert ("sideways" in region.evaluate("box => getComputedStyle(box, '::before').content")) == cut
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("([box, cut]) => (box.scrollLeft > 0) === cut", arg=[region.element_handle(), cut])
        assert region.get_attribute("role") == "region"
        assert region.get_attribute("aria-label")
    assert (page.locator(".cut").count() > 0) == (width == 360)
    assert page.locator(".tail li").count() == len(Tail.model_validate_json((run_dir / NAME).read_text()).classes)


def test_the_picture_of_the_documentation_shows_the_page_of_today(run_dir: Path, browser: Any) -> None:
    drawing = runpy.run_path(str(HOME / "docs" / "figures" / "report.py"))
    page = Opened(browser, run_dir / "report.html", drawing["WIDTH"]).page
    with Image.open(drawing["PICTURE"]) as picture:
        assert json.loads(picture.info[drawing["SHOWN"]]) == drawing["shown"](page), "run: make pictures"


@pytest.mark.parametrize("images", [[1, 1], [9000, 8000, 10], [12_345_678, 900_000]])
def test_the_legend_of_calibration_fits_on_a_telephone(
    run_dir: Path, browser: Any, tmp_path: Path, images: list[int]
) -> None:
    folder = shutil.copytree(run_dir, tmp_path / "run")
    with (folder / "calibration.csv").open("w", newline="") as file:
        bins = [(count, place / 10, place / 8) for place, count in enumerate(images)]
        csv.writer(file).writerows([("images", "accuracy", "confidence"), *bins])
    page = Opened(browser, write_report([folder], tmp_path / "page.html"), 360).page
    chart = page.locator("h3:text-is('Calibration on the test set') + div")
    boxes = [text.bounding_box() for text in chart.locator(".role-legend-label text").all()]
    assert 1 <= len(boxes) <= 2
    assert all(box["x"] + box["width"] <= 344 for box in boxes)
    assert all(one["x"] + one["width"] + 16 < other["x"] for one, other in itertools.pairwise(boxes))


@pytest.mark.slow
def test_tables_sort_by_mouse_and_keyboard_and_marks_tell(run_dir: Path, browser: Any) -> None:
    page = Opened(browser, run_dir / "report.html").page
    table = page.locator("table").nth(1)

    def column() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        return [float(cell) for cell in cells]

    table.locator("th button").nth(2).click()
    assert column() == sorted(column(), reverse=True)
    table.locator("th button").nth(2).press("Enter")
    assert column() == sorted(column())
    mark = page.locator("[data-chart]").first.locator(".mark-symbol.role-mark path").last
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "accuracy" in page.locator("#vg-tooltip-element").inner_text()


@pytest.mark.slow
def test_hostile_names_do_nothing_in_a_browser(run_dir: Path, browser: Any, tmp_path: Path) -> None:
    folder = pictured(with_classes(run_dir, tmp_path / "run", list(HOSTILE)), list(HOSTILE))
    opened = Opened(browser, write_report([folder], tmp_path / "page.html"))
    assert opened.complaints == []
    assert opened.page.evaluate("window.hit") is None
    assert HOSTILE[0] in opened.page.locator("body").inner_text()
    pictures = opened.page.locator(".tail img")
    assert pictures.first.get_attribute("alt") == f"Training image 1 of {HOSTILE[0]}"
    assert pictures.evaluate_all("all => all.every((one) => one.complete && one.naturalWidth > 0)")


@pytest.mark.slow
def test_a_thousand_classes_and_a_sweep_of_147_jobs(run_dir: Path, browser: Any, tmp_path: Path) -> None:
    names = [f"class {place}" for place in range(1000)]
    folder = with_classes(run_dir, tmp_path / "run", names)
    sweep = sweep_of(run_dir, tmp_path / "sweep", 147)
    for source, megabytes, seconds in ((folder, 3, 3), (sweep, 6, 20)):
        write_report([source], tmp_path / "first.html")  # what is read once is read
        start = time.process_time()
        page = write_report([source], tmp_path / f"{source.name}.html")
        assert time.process_time() - start < seconds
        assert page.stat().st_size < megabytes * 1e6
        opened = Opened(browser, page)
        assert opened.complaints == []
        assert opened.page.locator("svg text").count() < MOST_BARS * 4
    assert opened.page.locator("details summary").first.inner_text() == "All 147 settings"
    assert not opened.page.locator("details table").first.is_visible()
