import doctest
import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.rank_functions import shard_accuracy
from helpers.ranks import on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from drolt_pl import metrics
from drolt_pl.metrics import CalibrationError, ShotAccuracy, ncm_predict, shot_accuracy, shot_groups

COUNTS = [500, 101, 100, 20, 19, 1]
PREDS = torch.tensor([0, 0, 1, 1, 1, 2, 0, 4, 4, 0])
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 4, 4, 4])  # class 3 and class 5 have no sample


def reference(preds: np.ndarray, targets: np.ndarray, counts: Sequence[int], many: int, few: int) -> dict[str, Any]:
    """The same numbers from the definition, one class at a time."""
    per_class = [
        float(np.mean(preds[targets == c] == c)) if (targets == c).any() else math.nan for c in range(len(counts))
    ]

    def macro(keep: Any) -> float:
        values = [a for a, n in zip(per_class, counts, strict=True) if keep(n) and not math.isnan(a)]
        return float(np.mean(values)) if values else math.nan

    return {
        "acc": macro(lambda n: True),
        "acc_micro": float(np.mean(preds == targets)) if len(targets) else math.nan,
        "many": macro(lambda n: n > many),
        "medium": macro(lambda n: few <= n <= many),
        "few": macro(lambda n: n < few),
        "per_class": per_class,
    }


def assert_same(result: dict[str, Tensor], expected: dict[str, Any]) -> None:
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(result[name].numpy(), value, rtol=1e-6, err_msg=name)


def test_by_hand() -> None:
    metric = ShotAccuracy(COUNTS)
    metric.update(PREDS[:6], TARGETS[:6])
    metric.update(PREDS[6:], TARGETS[6:])
    expected = {
        "acc": (2 / 3 + 1 + 1 / 2 + 2 / 3) / 4,
        "acc_micro": 0.7,
        "many": (2 / 3 + 1) / 2,
        "medium": 1 / 2,  # class 3 has no sample: the group is class 2 alone
        "few": 2 / 3,
        "per_class": [2 / 3, 1, 1 / 2, math.nan, 2 / 3, math.nan],
    }
    assert_same(metric.compute(), expected)
    assert_same(reference_as_tensors(PREDS, TARGETS), expected)


def reference_as_tensors(preds: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {k: torch.tensor(v) for k, v in reference(preds.numpy(), targets.numpy(), COUNTS, 100, 20).items()}


def test_an_empty_group_is_nan_not_zero() -> None:
    metric = ShotAccuracy([500, 50])  # no class is "few"
    metric.update(torch.tensor([0, 0]), torch.tensor([0, 0]))  # and no "medium" sample
    result = metric.compute()
    assert result["few"].isnan()
    assert result["medium"].isnan()
    assert result["many"] == result["acc"] == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric ShotAccuracy:UserWarning")
def test_without_any_sample_everything_is_nan() -> None:
    assert all(value.isnan().all() for value in ShotAccuracy(COUNTS).compute().values())


def test_logits_and_classes_agree() -> None:
    logits = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    by_logits, by_class = ShotAccuracy(COUNTS), ShotAccuracy(COUNTS)
    by_logits.update(logits, TARGETS)
    by_class.update(logits.argmax(1), TARGETS)
    assert torch.equal(by_logits.correct, by_class.correct)


@settings(max_examples=60)
@given(st.data())
def test_against_numpy(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 200), min_size=1, max_size=8))
    classes = st.integers(0, len(counts) - 1)
    pairs = data.draw(st.lists(st.tuples(classes, classes), min_size=1, max_size=40))
    few = data.draw(st.integers(0, 30))
    many = data.draw(st.integers(30, 120))
    preds, targets = (torch.tensor(column) for column in zip(*pairs, strict=True))
    metric = ShotAccuracy(counts, many=many, few=few)
    cut = data.draw(st.integers(0, len(pairs)))
    metric.update(preds[:cut], targets[:cut])
    metric.update(preds[cut:], targets[cut:])
    expected = reference(preds.numpy(), targets.numpy(), counts, many, few)
    assert_same(metric.compute(), expected)
    assert_same(shot_accuracy(metric.correct, metric.total, torch.tensor(counts), many, few), expected)


def test_docstring_examples_run() -> None:
    assert doctest.testmod(metrics) == (0, 9)


def test_groups_have_the_fields_limits() -> None:
    groups = shot_groups(torch.tensor(COUNTS))
    assert {name: index.tolist() for name, index in groups.items()} == {
        "many": [0, 1],
        "medium": [2, 3],
        "few": [4, 5],
    }


def test_memory_is_one_number_per_class() -> None:
    metric = ShotAccuracy([1] * 8142)  # a confusion matrix of iNaturalist would hold 66 million
    assert sum(state.numel() for state in metric.metric_state.values()) == 2 * 8142


def test_reset_forward_pickle_and_state() -> None:
    metric = ShotAccuracy(COUNTS)
    batch = metric(PREDS[:3], TARGETS[:3])
    assert batch["acc_micro"] == pytest.approx(2 / 3)
    metric.update(PREDS[3:], TARGETS[3:])
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute()["acc_micro"] == metric.compute()["acc_micro"] == pytest.approx(0.7)
    assert not metric.state_dict()  # a checkpoint does not depend on the metrics of the run that wrote it
    metric.reset()
    assert not metric.total.any()


@pytest.mark.parametrize(
    ("preds", "targets", "message"),
    [
        (torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64), "preds must have 6 columns, one per class, got shape"),
        (
            torch.zeros(3, dtype=torch.int64),
            torch.zeros(2, dtype=torch.int64),
            "targets must have shape (3,), got (2,)",
        ),
        (torch.tensor([0, 0]), torch.tensor([0, 6]), "targets must be in [0, 6), got 0 to 6"),
        (torch.tensor([0, 0]), torch.tensor([-1, 0]), "targets must be in [0, 6), got -1 to 0"),
        (torch.zeros(2), torch.tensor([0, 1]), "preds must be class indices (B,) or logits (B, 6), got torch.float32"),
        (torch.zeros(()), torch.tensor([0, 1]), "preds must be class indices (B,) or logits (B, 6), got torch.float32"),
    ],
)
def test_wrong_batches_are_refused(preds: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ShotAccuracy(COUNTS).update(preds, targets)


def test_overlapping_groups_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^groups.few must be at most groups.many \+ 1 = 11, else the groups overlap, got 20$"
    ):
        ShotAccuracy(COUNTS, many=10)


def test_seven_samples_on_two_ranks_equal_one_rank() -> None:
    single = ShotAccuracy(COUNTS)
    single.update(PREDS[:7], TARGETS[:7])
    for found in on_ranks(2, shard_accuracy, COUNTS, PREDS[:7], TARGETS[:7]):
        assert_same(found, {k: v.numpy() for k, v in single.compute().items()})


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 7), st.floats(0.0, 1e3))
def test_ncm_is_the_nearest_present_centroid(seed: int, num_classes: int, dim: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(9, dim, generator=generator) + offset
    centroids = torch.randn(num_classes, dim, generator=generator) + offset
    counts = torch.randint(0, 3, (num_classes,), generator=generator)
    counts[seed % num_classes] = 1
    distances = torch.cdist(features.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    cosines = torch.nn.functional.cosine_similarity(features.double()[:, None], centroids.double()[None], dim=2)
    for name, far in {"euclidean": distances, "student_t": (1 + distances**2).log(), "cosine": -cosines}.items():
        far = far.masked_fill(counts == 0, math.inf)
        predicted = ncm_predict(features, centroids, counts, name)
        assert (counts[predicted] > 0).all()
        # Near-ties may fall either way in float32: the chosen centroid is as near as the nearest one.
        chosen = far.gather(1, predicted[:, None]).squeeze(1)
        torch.testing.assert_close(chosen, far.min(dim=1).values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ncm_computes_in_float32_under_low_precision(dtype: torch.dtype) -> None:
    # In bfloat16 200.0 and 200.5 are the same number.
    centroids = torch.tensor([[200.0, 0.0], [200.5, 0.0]])
    features = torch.tensor([[200.0, 0.0], [204.0, 0.0]], dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ncm_predict(features, centroids, torch.ones(2)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": "manhattan"}, "distance must be one of ('euclidean', 'student_t', 'cosine'), got 'manhattan'"),
        ({"features": torch.zeros(2, 4)}, "features and centroids must be (B, D) and (C, D), got (2, 4), (2, 3)"),
        ({"counts": torch.ones(1)}, "counts must have shape (2,), got (1,)"),
        ({"counts": torch.zeros(2)}, "counts must hold at least one class with images, got none"),
    ],
)
def test_ncm_refuses_in_one_sentence(change: dict[str, Any], message: str) -> None:
    arguments = {"features": torch.zeros(2, 3), "centroids": torch.zeros(2, 3), "counts": torch.ones(2)} | change
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ncm_predict(**arguments)


def test_calibration_error_is_the_fields_ece() -> None:
    """15 equal-width bins, weighted by their share of the samples (Guo et al. 2017)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 4, generator=generator)
    targets = torch.randint(0, 4, (500,), generator=generator)
    metric, torchmetrics = CalibrationError(15), MulticlassCalibrationError(num_classes=4, n_bins=15, norm="l1")
    for each in (metric, torchmetrics):
        each.update(logits, targets)

    confidence, predicted = (part.numpy() for part in logits.softmax(1).max(1))
    correct = predicted == targets.numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    ]
    assert metric.compute().item() == pytest.approx(sum(gaps), rel=1e-5)
    assert metric.compute().item() == pytest.approx(torchmetrics.compute().item(), rel=1e-5)
    # To the bit, whatever the order and the batches.
    again = CalibrationError(15)
    for part in torch.randperm(500, generator=generator).split(33):
        again.update(logits[part], targets[part])
    assert torch.equal(again.compute(), metric.compute())


def test_calibration_refuses_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^bins must be a whole number >= 1, got 0"):
        CalibrationError(0)
    with pytest.raises(ValueError, match=r"^logits must have shape \(B, C\), got \(3,\)"):
        CalibrationError().update(torch.zeros(3), torch.zeros(3, dtype=torch.int64))


def test_full_confidence_belongs_to_the_last_bin() -> None:
    metric = CalibrationError(10)
    metric.update(torch.tensor([[100.0, 0.0], [100.0, 0.0]]), torch.tensor([0, 1]))
    assert metric.total.tolist() == [0] * 9 + [2]
    assert metric.compute().item() == 0.5
