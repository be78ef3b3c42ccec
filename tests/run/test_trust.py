"""A run's folder from elsewhere executes nothing, whatever its configuration says."""

from pathlib import Path

import pytest
import yaml
from helpers.jobs import forked
from helpers.running import HOME, SHORT, composed
from omegaconf import OmegaConf

from drolt_pl import train
from drolt_pl.errors import SettingError
from drolt_pl.run.opened import open_run
from drolt_pl.run.trust import configuration

CONF = HOME / "conf"
FOREIGN = {
    "class": {"callbacks": {"own": {"_target_": "os.system", "command": "touch pwned"}}},
    "function of ours": {"dataset": {"_target_": "drolt_pl.run.python.train"}},
    "class in a list": {"trainer": {"plugins": [{"_target_": "subprocess.Popen"}]}},
    "class by reference": {"loss": {"_target_": "${name}"}, "name": "os.system"},
    "class out of a resolver": {"loss": "${oc.decode:'{_target_: os.system}'}"},
    "class in a key of a resolver": {"loss": "${sum:1,${oc.create:${name}}}"},
    "hydra": {"hydra": {"job_logging": {"version": 1}}},
    "defaults": {"defaults": ["loss: dro_lt"]},
    "list": [1, 2],
}


def folder(run_dir: Path, changes: object) -> Path:
    """A run's folder whose configuration is changed."""
    plain = OmegaConf.to_container(composed(*SHORT))
    assert isinstance(plain, dict)
    (run_dir / ".hydra").mkdir(parents=True)
    content = {**plain, **changes} if isinstance(changes, dict) else changes
    (run_dir / ".hydra" / "config.yaml").write_text(yaml.safe_dump(content))
    return run_dir


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_configuration_is_one_sentence(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = folder(tmp_path / "run", FOREIGN[kind])
    with pytest.raises(SettingError, match=r"names .* trust=true|must be a mapping without") as refused:
        train([f"resume={run_dir}"])
    assert "\n" not in str(refused.value)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "ce_warmup.ckpt").touch()
    with pytest.raises(SettingError, match=r"names |must be a mapping"):
        open_run(run_dir)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.slow
def test_what_conf_names_is_no_stranger(tmp_path: Path) -> None:
    for number, path in enumerate(sorted((CONF / "method").glob("*.yaml"))):
        config = composed(f"method={path.stem}", "logger=[csv,tensorboard,wandb]", "augment=randaugment")
        run_dir = tmp_path / str(number)
        (run_dir / ".hydra").mkdir(parents=True)
        OmegaConf.save(config, run_dir / ".hydra" / "config.yaml")
        configuration(run_dir, CONF, trust=False)


def test_trust_lets_own_classes_in(tmp_path: Path) -> None:
    own = {"callbacks": {"own": {"_target_": "own_callbacks.Own"}}}
    run_dir = folder(tmp_path / "run", own)
    refused = forked(f"resume={run_dir}", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "own_callbacks.Own" in refused.stderr
    # Trusted, it is looked for; it is not there.
    trusted = forked(f"resume={run_dir}", "trust=true", cwd=tmp_path)
    assert "No module named 'own_callbacks'" in trusted.stderr
    assert "trust must be one of" in forked(f"resume={run_dir}", "trust=yes", cwd=tmp_path).stderr
