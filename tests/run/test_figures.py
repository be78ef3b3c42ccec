"""`drolt figure`: every figure of a short run on the digits, drawn again from its CSV, and what it refuses."""

import shutil
from pathlib import Path

import pytest
from helpers.running import SHORT, folder_of_a_run
from omegaconf import OmegaConf
from typer.testing import CliRunner, Result

from drolt_pl.cli.app import app
from drolt_pl.kept import Kept
from drolt_pl.report.keep import keep_run
from drolt_pl.results import Results
from drolt_pl.rows import by_seed, from_csv
from drolt_pl.run.figures.names import FIGURES

OVERRIDES = (
    "callbacks=[default,snapshots]",
    "callbacks.snapshots.every=3",
    "loss.eps_mode=learned",
    "backbone.num_features=16",
)
OF_RECORDS = {"fig2", "fig4", "appendix_d", "tradeoff"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_a_run(tmp_path_factory.mktemp("figures") / "run", *SHORT, *OVERRIDES)


def figure(*words: object) -> Result:
    return CliRunner().invoke(app, ["figure", *map(str, words)])


def check(name: str, out: Path, *runs: object) -> None:
    """Makes a figure, and from its CSV the same files again."""
    result = figure(name, *runs, "--out", out)
    assert result.exit_code == 0, result.output
    written = {path.suffix: path.read_bytes() for path in out.glob(f"{name}.*")}
    assert written.keys() == {".csv", ".png", ".svg"}
    again = figure(name, out / f"{name}.csv", "--out", out / "again")
    assert again.exit_code == 0, again.output
    assert {path.suffix: path.read_bytes() for path in (out / "again").glob(f"{name}.*")} == written


def test_errors_by_class_come_from_the_record_alone(run: Path, tmp_path: Path) -> None:
    keep_run(run, tmp_path / "kept.json")
    check("fig4", tmp_path, f"CE={run}:ce_warmup", f"<b>DRO-LT=x={tmp_path / 'kept.json'}")
    text = (tmp_path / "fig4.csv").read_text()
    assert text.count("\n") == 21
    assert Kept.load(tmp_path / "kept.json").results.stages["joint"].train is not None


def test_radii_come_with_their_updates(run: Path, tmp_path: Path) -> None:
    check("fig2", tmp_path, run)
    assert '"radius","fit","updates"' in (tmp_path / "fig2.csv").read_text()


@pytest.fixture(scope="module")
def seeds(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of kept runs of three seeds, the later the less accurate."""
    folder = tmp_path_factory.mktemp("kept") / "dro_lt"
    folder.mkdir()
    for seed in range(3):
        keep_run(run, folder / f"seed{seed}.json")
        kept = Kept.load(folder / f"seed{seed}.json")
        test = kept.results.test.model_copy(update={"few": 0.5 - 0.1 * seed})
        changed = kept.results.model_copy(update={"seed": seed, "test": test})
        kept.model_copy(update={"results": changed}).write(folder / f"seed{seed}.json")
    return folder


@pytest.mark.parametrize("name", ["fig2", "fig4", "tradeoff"])
def test_a_folder_of_kept_runs_gives_its_seeds(seeds: Path, tmp_path: Path, name: str) -> None:
    check(name, tmp_path, f"DRO-LT={seeds}")
    rows = from_csv((tmp_path / f"{name}.csv").read_text(), name)
    assert [found[0]["seed"] for found in by_seed(rows)] == [0, 1, 2]
    assert {row["run"] for row in rows} == {"DRO-LT"}
    if name == "tradeoff":
        assert [row["few"] for row in rows] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize("name", ["collapse", "fig3"])
def test_a_folder_of_runs_gives_its_seeds(run: Path, tmp_path: Path, name: str) -> None:
    """As a sweep over seeds leaves it: the weights of each are measured."""
    for seed in range(3):
        folder = shutil.copytree(run, tmp_path / "sweep" / str(seed))
        results = Results.load(folder / "results.json").model_copy(update={"seed": seed})
        results.write(folder / "results.json")
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        config["seed"] = seed
        OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    check(name, tmp_path / "out", f"DRO-LT={tmp_path / 'sweep'}:joint")
    seeds = by_seed(from_csv((tmp_path / "out" / f"{name}.csv").read_text(), name))
    assert [found[0]["seed"] for found in seeds] == [0, 1, 2]
    assert {row["run"] for found in seeds for row in found} == {"DRO-LT"}
    shutil.copytree(tmp_path / "sweep" / "0", tmp_path / "sweep" / "3")
    again = figure(name, tmp_path / "sweep", "--out", tmp_path / "out")
    assert again.exit_code == 1
    assert "must be a folder of runs that differ in their seeds alone" in again.output


def test_a_seed_that_was_kept_twice_is_refused(seeds: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(seeds, tmp_path / "twice")
    shutil.copy(folder / "seed0.json", folder / "again.json")
    result = figure("fig4", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "RUN must be a folder of runs that differ in their seeds alone" in result.output


@pytest.mark.slow
def test_the_frontier_of_two_stages(run: Path, tmp_path: Path) -> None:
    check("frontier", tmp_path, f"{run}:ce_warmup", f"{run}:rebalance")
    text = (tmp_path / "frontier.csv").read_text()
    assert '"dro_lt, ce_warmup"' in text
    assert '"dro_lt, rebalance"' in text


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIGURES.keys() - OF_RECORDS))
def test_every_figure_is_made_of_a_run(run: Path, tmp_path: Path, name: str) -> None:
    check(name, tmp_path, f"CE={run}:joint")


@pytest.mark.slow
def test_sensitivity_is_made_of_runs_that_differ(tmp_path: Path) -> None:
    """A command records its overrides; a run of this process has none, so they are written here."""
    runs = [folder_of_a_run(tmp_path / f"{eps}", *SHORT, f"loss.eps={eps}") for eps in (1, 5)]
    for run in runs:
        results = Results.load(run / "results.json").model_copy(update={"overrides": [f"loss.eps={run.name}"]})
        results.write(run / "results.json")
    check("appendix_d", tmp_path, *runs)


def test_without_a_name_all_are_listed() -> None:
    result = figure()
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(FIGURES)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["figure9", "{run}"], "NAME must be one of"),
        (["fig5"], "RUN must be given: figure fig5 shows test features by t-SNE; two runs"),
        (["fig5", "nowhere"], r"RUN must be [LABEL=]FOLDER[:STAGE], or a kept run's file, got 'nowhere'"),
        (["fig5", "{run}:second"], "--stage must be one that"),
        (["fig4", "{run}:second"], "RUN must record train and test accuracy by class after stage 'second'"),
        (["fig5", "{kept}"], "RUN must be a run's folder: this figure is made from its weights"),
        (["appendix_d", "{run}"], "RUN must be several runs with different values of loss.eps"),
        (["fig2", "{csv}"], "must be the numbers of a figure"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(run: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    keep_run(run, tmp_path / "kept.json")
    (tmp_path / "wrong.csv").write_text("epoch,loss\n0,1.0\n")
    places = {"run": run, "kept": tmp_path / "kept.json", "csv": tmp_path / "wrong.csv"}
    result = figure(*(word.format(**places) for word in words), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()
