"""What docs/findings.md shows of kept runs: paired differences, and what the joint stage measured."""

from pathlib import Path

import pytest
from helpers.report_samples import keep, made_up
from scipy import stats

from drolt_pl.errors import SettingError
from drolt_pl.kept import Kept
from drolt_pl.report import render_readme

METRICS = (
    "epoch,stage_name,train/own_mass,train/loss_robust,train/loss_ce",
    "0,ce_warmup,,,4.0",
    "1,joint,0.5,3.0,2.0",
    "2,joint,0.25,2.5,1.5",
    "3,rebalance,,,1.0",
)


def pooled(seed: int, acc: float, pool: float) -> dict[str, object]:
    return made_up(seed, acc, test_pool={"acc": pool, "many": 0.5, "medium": None, "few": None})


def filled(root: Path, mark: str) -> list[str]:
    name = mark.split()[0]
    return render_readme(f"<!-- {mark}:begin -->\nold\n<!-- {name}:end -->\n", root).splitlines()[1:-1]


def test_pairs_are_paired_by_seed_with_the_t_interval(tmp_path: Path) -> None:
    ours, theirs = (0.5, 0.6, 0.7), (0.48, 0.6, 0.66)
    # A seed without a partner counts for nothing.
    keep(tmp_path / "g/a", **{f"seed{seed}": pooled(seed, acc, 0.5) for seed, acc in enumerate((*ours, 0.1))})
    keep(tmp_path / "g/b", **{f"seed{seed}": pooled(seed, acc, 0.25) for seed, acc in enumerate(theirs)})
    differences = [100 * (our - their) for our, their in zip(ours, theirs, strict=True)]
    low, high = stats.t.interval(0.95, 2, loc=sum(differences) / 3, scale=stats.sem(differences))
    row = filled(tmp_path, "pairs g/a:b")[-1]
    expected = f"+2.00 [{low:+.2f}, {high:+.2f}] | +25.00 [+25.00, +25.00] | +0.00 [+0.00, +0.00] | - | - | 3 |"
    assert row == f"| `a` − `b` | {expected}"


def test_the_other_may_lie_in_another_folder(tmp_path: Path) -> None:
    keep(tmp_path / "g/a", seed0=pooled(0, 0.5, 0.5))
    keep(tmp_path / "h/b", seed0=pooled(0, 0.4, 0.5))
    assert filled(tmp_path, "pairs g/a:h/b")[-1] == "| `a` − `b` | +10.00 | +0.00 | +0.00 | - | - | 1 |"


def test_two_pairs_have_no_interval(tmp_path: Path) -> None:
    for name, acc in (("a", 0.5), ("b", 0.4)):
        keep(tmp_path / "g" / name, **{f"seed{seed}": pooled(seed, acc, acc) for seed in range(2)})
    assert filled(tmp_path, "pairs g/a:b")[-1] == "| `a` − `b` | +10.00 | +10.00 | +0.00 | - | - | 2 |"


def test_the_joint_stage_shows_its_last_epoch(tmp_path: Path) -> None:
    keep(tmp_path / "g/a", seed0=made_up(0), seed1=made_up(1))
    for path in (tmp_path / "g/a").iterdir():
        Kept.load(path).model_copy(update={"metrics": METRICS}).write(path)
    row = filled(tmp_path, "joint g/a")[-1]
    assert row == "| `a` | 0.25 | - | - | 2.50 | 1.50 | - | - | 2 |"


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("pairs g/a", "pairs must name two folders of kept runs, as in FOLDER/ROW:OTHER, got 'g/a'"),
        ("pairs g/a:c", "pairs must name runs with a seed in common"),
        ("joint g/a", "joint must name runs with a stage joint"),
    ],
)
def test_what_cannot_be_shown_is_named(tmp_path: Path, mark: str, message: str) -> None:
    keep(tmp_path / "g/a", seed0=made_up(0))
    keep(tmp_path / "g/c", seed9=made_up(9))
    with pytest.raises(SettingError, match=message):
        filled(tmp_path, mark)
