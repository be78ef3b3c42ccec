"""Several ranks: the same as one, whoever starts them; they share a folder, and are stopped where they differ."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.jobs import forked
from helpers.rank_functions import compared_on_rank
from helpers.ranks import on_ranks
from helpers.running import EPOCHS, HOME, SHORT, composed, tensors, train_here

from drolt_pl.errors import SettingError
from drolt_pl.learning.same_ranks import SameOnAllRanks
from drolt_pl.run.assemble import assemble
from drolt_pl.run.build import build
from drolt_pl.run.ranks import Meeting, find_meeting, require_reachable

DDP = ("trainer.devices=2", "trainer.strategy=ddp")
STEPS = "+callbacks.steps={_target_: helpers.watching.Steps}"
TESTS = str(HOME / "tests")


def run(run_dir: Path, *overrides: str) -> list[Any]:
    """Trains by the command line; what each rank's `watching.Steps` has written."""
    done = forked(*overrides, *([] if (run_dir / ".hydra").exists() else [f"hydra.run.dir={run_dir}"]),
                   PYTHONPATH=TESTS)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.load(path) for path in sorted(run_dir.glob("steps_*.pt"))]


def require_same_steps(one: Any, ranks: list[Any]) -> None:
    """The mean loss of the ranks and each rank's gradients are those of one process, in every step."""
    assert len(one["losses"]) == len(ranks[0]["losses"]) == 20
    losses = torch.tensor([rank["losses"] for rank in ranks]).mean(0)
    torch.testing.assert_close(losses, torch.tensor(one["losses"]), rtol=1e-5, atol=1e-5)
    for rank in ranks:
        for step, (ours, theirs) in enumerate(zip(rank["gradients"], one["gradients"], strict=True)):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-5, atol=1e-5, msg=lambda text, step=step: f"{step}: {text}"
            )


@pytest.mark.slow
def test_with_gather_two_ranks_step_as_one_process_does(tmp_path: Path) -> None:
    overrides = (
        *("trainer=cpu", "loss.gather=true", "augment=none", "dataset.flip=false", STEPS),
        "backbone._target_=helpers.watching.PlainNet",
        *("~schedule.stages.ce_warmup", "~schedule.stages.rebalance", "schedule.stages.joint.epochs=3"),
        "schedule.stages.joint.epoch_size=288",  # of the 287 images two ranks would leave one out
    )
    (one,) = run(tmp_path / "one", *overrides)
    ranks = run(tmp_path / "two", *overrides, *DDP)
    require_same_steps(one, ranks)


@pytest.mark.slow
def test_experts_and_their_student_step_on_two_ranks_as_in_one_process(tmp_path: Path) -> None:
    sizes = [f"schedule.stages.{stage}.epoch_size=288" for stage in ("experts", "ce_warmup")]
    lengths = ["schedule.stages.experts.epochs=1", "schedule.stages.ce_warmup.epochs=2"]
    overrides = ("trainer=cpu", "method=lfme", "augment=none", "dataset.flip=false", STEPS, *sizes, *lengths,
                 "backbone._target_=helpers.watching.PlainNet")  # fmt: skip
    (one,) = run(tmp_path / "one", *overrides)
    ranks = run(tmp_path / "two", *overrides, *DDP)
    require_same_steps(one, ranks)


@pytest.mark.slow
def test_one_two_and_three_ranks_measure_the_same(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (one,) = run(run_dir, *SHORT, "dataset.batch_size=48", STEPS)
    results = json.loads((run_dir / "results.json").read_text())
    for world in (2, 3):
        # A finished run is only evaluated again.
        ranks = run(run_dir, f"resume={run_dir}", "trust=true", f"trainer.devices={world}", "trainer.strategy=ddp")
        assert len(ranks) == world
        for rank in ranks:
            torch.testing.assert_close(rank["centroids"], one["centroids"], rtol=1e-6, atol=1e-6)
        again = json.loads((run_dir / "results.json").read_text())
        for part in ("stages", "test", "test_pool", "val"):
            assert again[part] == results[part], f"{world} ranks: {part}"


# ---- what is compared at the start ----


def test_a_rank_with_another_configuration_or_other_data_stops_the_run() -> None:
    low = {"optimizer": {"lr": 0.1}, "seed": 0}
    high = {"optimizer": {"lr": 0.2}, "seed": 0}
    cases = [
        [(low, "a"), ({**low, "logger": {"wandb": {}}}, "a")],
        [(low, "a"), (high, "a")],
        [(low, "a" * 64), (low, "b" * 64)],
    ]
    sentences = (
        None,
        "optimizer.lr is 0.1 on rank 0 and 0.2 on rank 1: start all processes of a run with the same command",
        "dataset has other images on rank 1 than on rank 0 (split bbbbbbbb and aaaaaaaa): give every machine the same "
        "data",
    )
    assert on_ranks(2, compared_on_rank, cases) == [list(sentences)] * 2


def test_lightnings_own_slicing_is_off() -> None:
    config = composed("trainer=cpu", *DDP)
    trainer = assemble(config, Path("unused"), HOME / "conf").trainer
    assert trainer._accelerator_connector.use_distributed_sampler is False
    callback = next(callback for callback in trainer.callbacks if isinstance(callback, SameOnAllRanks))
    theirs = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    with pytest.raises(SettingError, match="use_distributed_sampler must be False"):
        callback.setup(theirs, pl.LightningModule(), "fit")


# ---- batch and learning rates ----


def test_rates_follow_the_batch_where_asked(tmp_path: Path) -> None:
    plain = train_here(tmp_path / "plain", "dataset.batch_size=64")
    assert plain["batch"] == {"global": 64, "per_rank": 64, "ranks": 1, "lr_scale": 1.0}
    scaled = train_here(tmp_path / "scaled", "dataset.batch_size=64", "optimizer.base_batch=32")
    assert scaled["batch"]["lr_scale"] == 2.0
    rates = [_column(tmp_path / name / "metrics.csv", "lr/backbone") for name in ("plain", "scaled")]
    assert rates[1] == pytest.approx([2 * rate for rate in rates[0]])
    assert _column(tmp_path / "plain" / "metrics.csv", "batch/per_rank") == [64.0] * EPOCHS


def test_a_base_batch_that_is_no_batch_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^optimizer\.base_batch must be null or a whole number >= 1, got 0$"):
        build(composed("optimizer.base_batch=0"), "optimizer")


def _column(path: Path, name: str) -> list[float]:
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    return [float(row[head.index(name)]) for row in rows]


# ---- processes that something else starts ----


def test_a_meeting_is_found_where_others_start_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    master = {"MASTER_ADDR": "host", "MASTER_PORT": "29400"}
    assert find_meeting({}) is None
    assert find_meeting({**master, "NODE_RANK": "1", "LOCAL_RANK": "1"}) is None, "started by this run itself"
    assert find_meeting({**master, "NODE_RANK": "1"}) == Meeting(1, 0, 1, "host", 29401, False, None)
    torchrun = {**master, "TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1",
                "WORLD_SIZE": "4"}  # fmt: skip
    found = find_meeting({**torchrun, "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert found == Meeting(3, 1, 1, "host", 29400, True, 4)
    slurm = {
        **{"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"},
        **{"SLURM_NODEID": "1", "SLURM_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "train"},
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert find_meeting(os.environ) == Meeting(3, 1, 1, "gpu07", 6234, False, 4)
    os.environ.pop("MASTER_ADDR", None)  # set by Lightning's reading
    assert find_meeting({**slurm, "SLURM_JOB_NAME": "interactive"}) is None
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")  # sbatch --ntasks=4
    with pytest.raises(SettingError, match=r"^SLURM_NTASKS must be 1 here.*got '4'; ask for --ntasks-per-node"):
        find_meeting(os.environ)


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": TESTS, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(*processes: subprocess.Popen[str], code: int = 0) -> str:
    """The output of processes that run at the same time."""
    outs = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), "\n".join(outs)
    return "".join(outs)


def free_port() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return str(bound.getsockname()[1])


def torchrun(cwd: Path, node: int, nodes: int, port: str, *overrides: str) -> subprocess.Popen[str]:
    where = ("--nnodes", str(nodes), "--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", port)
    return start(cwd, "-m", "torch.distributed.run", *where, "--nproc-per-node", "2", str(HOME / "train.py"), *SHORT,
                 *DDP, f"trainer.num_nodes={nodes}", *overrides)  # fmt: skip


def the_run(cwd: Path) -> Path:
    """The only run below the default folder."""
    (day,) = (cwd / "outputs").iterdir()
    (run_dir,) = day.iterdir()
    return run_dir


@pytest.mark.slow
def test_two_by_two_torchrun_shares_rank_zeros_folder_and_resumes(tmp_path: Path) -> None:
    port = free_port()
    out = finished(*(torchrun(tmp_path, node, 2, port) for node in range(2)))
    assert "4 ranks: dataset.batch_size=32 is 8 images a rank and step" in out
    run_dir = the_run(tmp_path)
    results = json.loads((run_dir / "results.json").read_text())
    assert results["batch"]["ranks"] == 4
    assert list(results["stages"]) == ["ce_warmup", "joint", "rebalance"]
    assert results["overrides"] == [*SHORT, *DDP, "trainer.num_nodes=2"]
    (run_dir / "results.json").unlink()
    (run_dir / "checkpoints" / "ce_warmup.ckpt").rename(run_dir / "checkpoints" / "last.ckpt")
    where = ("--standalone", "--nproc-per-node", "4", str(HOME / "train.py"))
    finished(start(tmp_path, "-m", "torch.distributed.run", *where, f"resume={run_dir}", "trainer.num_nodes=1",
                   "trainer.devices=4"))  # fmt: skip
    again = json.loads((run_dir / "results.json").read_text())
    assert again["stages"]["joint"] == results["stages"]["joint"]
    assert the_run(tmp_path) == run_dir


@pytest.mark.slow
def test_torchrun_with_a_wrong_number_of_devices_ends_in_a_sentence(tmp_path: Path) -> None:
    out = finished(torchrun(tmp_path, 0, 1, free_port(), "trainer.devices=3"), code=1)
    assert out.count("error: trainer.devices=3 and trainer.num_nodes=1 make 3 processes, but 2 were started") == 2
    single = finished(torchrun(tmp_path, 0, 1, free_port(), "trainer.devices=1", "trainer.strategy=auto"), code=1)
    assert "error: trainer.devices=1 and trainer.num_nodes=1 make 1 processes, but 2 were started" in single


def slurm(cwd: Path, rank: int, *overrides: str) -> subprocess.Popen[str]:
    """A task as srun starts it: two of them on one node."""
    variables = {
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        **{"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "train"},
        "SLURM_JOB_ID": str(os.getpid() % 9999),
    }
    return start(cwd, str(HOME / "train.py"), *SHORT, *DDP, *overrides, **variables)


@pytest.mark.slow
def test_slurm_tasks_share_rank_zeros_folder(tmp_path: Path) -> None:
    finished(*(slurm(tmp_path, rank) for rank in range(2)))
    assert json.loads((the_run(tmp_path) / "results.json").read_text())["batch"]["ranks"] == 2
    # A folder that holds a run is refused once, by rank 0.
    run_dir = the_run(tmp_path)
    out = finished(*(slurm(tmp_path, rank, f"hydra.run.dir={run_dir}") for rank in range(2)), code=1)
    assert out.count("error:") == 1
    assert "holds a run already" in out


@pytest.mark.slow
def test_nodes_started_with_different_commands_are_stopped(tmp_path: Path) -> None:
    port = free_port()
    out = finished(*(torchrun(tmp_path, node, 2, port, f"optimizer.lr=0.{node + 1}") for node in range(2)), code=1)
    assert "error: optimizer.lr is 0.1 on rank 0 and 0.2 on rank 2: start all processes of a run with" in out


@pytest.mark.slow
def test_two_ranks_resumed_at_every_epoch_equal_uninterrupted(tmp_path: Path) -> None:
    whole, snapshots = tmp_path / "whole", tmp_path / "snapshots"
    snapshot = f"+callbacks.snapshots={{_target_: helpers.watching.Snapshots, run_dir: {whole}, folder: {snapshots}}}"
    frozen = "+callbacks.frozen={_target_: helpers.watching.BitIdentical}"
    changes = ("loss.eps_mode=learned", "schedule.stages.rebalance.start_from=best",
               "schedule.stages.rebalance.classifier=reset")  # fmt: skip
    run(whole, *SHORT, *DDP, *changes, snapshot, frozen)
    results = json.loads((whole / "results.json").read_text())
    final = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    for epoch in range(1, EPOCHS):
        run_dir = snapshots / str(epoch)
        run(run_dir, f"resume={run_dir}", "trust=true")  # its callbacks are the tests' own
        state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
        for part in ("state_dict", "optimizer_states"):
            ours, theirs = tensors(state[part]), tensors(final[part])
            differing = [key for key in theirs if not torch.equal(ours[key], theirs[key])]
            assert not differing, f"resumed at {epoch}: {part}{differing}"
        assert (run_dir / "frozen_0").read_text() == (run_dir / "frozen_1").read_text() == "identical"
        again = json.loads((run_dir / "results.json").read_text())
        for key in ("stages", "test", "val", "eps", "images_seen", "selection", "objective"):
            assert again[key] == results[key], f"resumed at {epoch}: {key}"


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "NODE_RANK"])
def test_variables_that_are_no_numbers_are_named(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} must be a whole number in the environment.*unset {name}"):
        find_meeting({"NODE_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1", name: "abc"})
    assert find_meeting({"SLURM_NTASKS": ""}) is None


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_what_torchrun_left_in_part_is_named(name: str) -> None:
    whole = {"TORCHELASTIC_RUN_ID": "old", "MASTER_ADDR": "host", "MASTER_PORT": "29400", "RANK": "0",
             "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # fmt: skip
    assert find_meeting(whole) is not None
    for left in ({key: value for key, value in whole.items() if key != name}, {**whole, name: ""}):
        with pytest.raises(SettingError, match=f"^{name} must be in the environment, .*; start by torchrun, or unset"):
            find_meeting(left)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LOCAL_RANK": "1"}, "^LOCAL_RANK must not be in the environment without MASTER_ADDR"),
        ({"LOCAL_RANK": "abc", "MASTER_ADDR": "x"}, "^LOCAL_RANK must be a whole number"),
        ({"NODE_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "65535"}, "^MASTER_PORT must be the number of a port"),
    ],
)
def test_leftovers_of_a_launcher_are_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        find_meeting(variables)


def test_a_host_that_nobody_knows_is_not_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unknown(host: str, port: None) -> None:
        asked.append(host)
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(SettingError, match=r"^MASTER_ADDR must be the name .*, got 'nowhere'"):
        require_reachable("nowhere", tries=3, pause_s=0.0)
    assert asked == ["nowhere"] * 3


@pytest.mark.parametrize("module", ["drolt_pl.cli.train", "drolt_pl"])
def test_python_without_docstrings_is_one_sentence(module: str, tmp_path: Path) -> None:
    words = [sys.executable, "-OO", "-m", module, "report" if module == "drolt_pl" else "seed=1", "."]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: PYTHONOPTIMIZE must be 0 or 1")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
