"""Our sweepers are Hydra's in our own command, and no other application of the environment sees them."""

import subprocess
import sys
from pathlib import Path

from helpers.jobs import forked
from helpers.running import HOME

OTHER = """
import sys, hydra
from hydra.core.plugins import Plugins

@hydra.main(version_base="1.3", config_path=None)
def app(config):
    found = [kind.__module__ for kind in Plugins.instance().discover()]
    print([name for name in found if "drolt" in name], sum("core_plugins" in name for name in found) > 0)
    print([name for name in sys.modules if name.startswith("drolt_pl")])

app()
"""


def test_another_application_does_not_see_them(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    arguments = [sys.executable, "other.py", "hydra.run.dir=."]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[]"]


def test_our_command_lists_them(tmp_path: Path) -> None:
    done = forked("--info", "plugins", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"JobListSweeper", "OptunaSweeper", "RayLauncher"} <= set(done.stdout.replace("|", " ").split())


def test_a_class_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    done = forked("-m", "hydra.sweeper._target_=drolt_pl.sweeps.joblist.product", cwd=tmp_path)
    assert done.returncode == 1
    assert "Invalid plugin" in done.stderr


def test_the_typed_schedule_survives_the_way_to_another_process(tmp_path: Path) -> None:
    """What submitit does with Hydra's singletons."""
    code = (
        "import cloudpickle, sys; from hydra.core.singleton import Singleton; from drolt_pl.run import schema; "
        "schema.register(); sys.stdout.buffer.write(cloudpickle.dumps(Singleton.get_state()))"
    )
    pickled = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=HOME).stdout
    (tmp_path / "state.pkl").write_bytes(pickled)
    compose = (
        "import pickle, sys; from pathlib import Path; from hydra.core.singleton import Singleton; "
        "from hydra import compose, initialize_config_dir; "
        "Singleton.set_state(pickle.loads(Path(sys.argv[1]).read_bytes())); "
        "initialize_config_dir(sys.argv[2], version_base='1.3'); print(compose('config').schedule.stages.joint.epochs)"
    )
    arguments = [sys.executable, "-c", compose, str(tmp_path / "state.pkl"), str(HOME / "conf")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
