"""Made-up results of runs, for the tests of what is reported."""

import json
from pathlib import Path
from typing import Any

from drolt_pl.comparison import Comparison
from drolt_pl.kept import Kept
from drolt_pl.results import Results

COUNTS = [500, 120, 50, 5]


def made_up(seed: int = 0, acc: float = 0.5, **changes: Any) -> dict[str, Any]:
    """The content of a results.json with round numbers."""
    test = {"acc": acc, "acc_micro": acc, "many": 0.75, "medium": 0.5, "few": None, "acc_ncm": 0.4, "ece": 0.125}
    return {
        "schema": 1,
        "name": None,
        "dataset": "toy_lt",
        "method": "dro_lt",
        "protocol": "holdout",
        "seed": seed,
        "split_seed": 0,
        "class_counts": COUNTS,
        "num_parameters": 470004,
        "images_seen": 1234567,
        "selection": {"metric": "val/acc", "stage": "rebalance", "epoch": 41, "n_candidates": 10},
        "stages": {
            "zero": {"val": None, "test": {**test, "acc": 0.25}, "train": {"acc": 0.9987}},
            "rebalance": {"val": None, "test": test},
        },
        "test": {**test, "per_class": [1.0, 0.5, 0.5, None], "per_class_ncm": [0.9, 0.4, 0.3, 0.0]},
        "eps": [0.1, 0.2, 0.3, 0.4],
        "timing": {"train_s": 600.0 + seed, "centroid_s": 1.0, "images_per_s": 1.0},
        "versions": {"python": "3.11.9", "torch": "2.15.0"},
        "git": "abc1234",
        "hardware": "2 CPU threads, x86_64",
        "command": f"python train.py dataset=toy_lt seed={seed}",
        "overrides": ["dataset=toy_lt", f"seed={seed}"],
        "setting": {"profile": "exp", "imbalance_ratio": 100, "backbone": "resnet32", "schedule": "cifar"},
        **changes,
    }


def typed(content: dict[str, Any]) -> Results:
    return Results.model_validate_json(json.dumps(content))


def keep(root: Path, **runs: dict[str, Any]) -> Path:
    for name, content in runs.items():
        Kept(kept=1, results=typed(content)).write(root / f"{name}.json")
    return root


def keep_comparison(path: Path, crt: float) -> None:
    """Adds a comparison of classifiers to a kept run."""
    compared = Comparison.model_validate_json(comparison(crt))
    Kept.load(path).model_copy(update={"classifiers": {compared.stage: compared}}).write(path)


def variant(override: str, seed: int = 0, acc: float = 0.5, **changes: Any) -> dict[str, Any]:
    overrides = ["dataset=toy_lt", override, f"seed={seed}"]
    return made_up(
        seed, acc, **{"overrides": overrides, "command": " ".join(["python train.py", *overrides])} | changes
    )


def table_rows(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def comparison(crt: float, **changes: Any) -> str:
    """What `drolt classifiers` writes, with two classifiers of which one could not be had."""
    found = {"cRT": {"val": None, "test": {"acc": crt}, "chosen": {}, "why": None}}
    found["tau-norm"] = {"val": None, "test": None, "chosen": {}, "why": "no validation images"}  # type: ignore[dict-item]
    return json.dumps({"stage": "joint", "views": 4, "epochs": 10, "lr": 0.1, "classifiers": found} | changes)
