"""Classifiers that are fitted when their stage starts, and OLTR's, against loops from their formulas."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.jobs import forked
from helpers.rank_functions import shard_features
from helpers.ranks import on_ranks
from helpers.running import train_composed
from torch import Tensor, nn

from drolt_pl.centroids import class_statistics
from drolt_pl.classifiers import (
    CosineClassifier,
    HeldOut,
    LinearClassifier,
    LogitAdjustedClassifier,
    NearestMeanClassifier,
    OLTRClassifier,
    SmDragonClassifier,
    TauNormClassifier,
)
from drolt_pl.errors import SettingError

D, C = 5, 4
COUNTS = torch.tensor([40, 10, 3, 1])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear() -> LinearClassifier:
    """Weights that grow with the class's size, as those of cross-entropy do."""
    classifier = LinearClassifier(D, C)
    classifier.begin(None, generator=generator())
    with torch.no_grad():
        classifier.weight.mul_(COUNTS[:, None].float().log1p())
        classifier.bias.copy_(torch.tensor([3.0, 1.0, -1.0, -4.0]))
    return classifier.double()


def held_out(size: int = 60) -> HeldOut:
    """Features that W tells apart, were it not for norms and bias. Class 1 is missing."""
    weight = linear().weight.detach()
    targets = torch.tensor([0, 2, 3])[torch.randint(3, (size,), generator=generator())]
    noise = torch.randn(size, D, generator=generator(), dtype=torch.float64)
    return HeldOut(weight[targets] / weight[targets].norm(dim=1, keepdim=True) + 0.3 * noise, targets)


def centroids() -> Tensor:
    return torch.randn(C, D, generator=generator())


def fitted(classifier: Any, images: HeldOut | None = None) -> Any:
    classifier.double().begin(linear(), generator=generator())
    classifier.fit(images, centroids(), COUNTS)
    return classifier


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Mean over the classes present."""
    return float(torch.stack([(logits.argmax(1) == c)[targets == c].double().mean() for c in targets.unique()]).mean())


@pytest.mark.parametrize("tau", [0.0, 0.7, 2.0])
def test_tau_norm_divides_rows_by_a_power_of_their_norm(tau: float) -> None:
    classifier, features = fitted(TauNormClassifier(D, C, tau=tau)), held_out().features
    weight = linear().weight.tolist()
    for row, logits in zip(features.tolist(), classifier(features).tolist(), strict=True):
        for w, logit in zip(weight, logits, strict=True):
            norm = math.sqrt(sum(value**2 for value in w))
            assert logit == pytest.approx(sum(a * b for a, b in zip(w, row, strict=True)) / norm**tau)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_logit_adjustment_subtracts_the_log_prior(tau: float) -> None:
    classifier, features = fitted(LogitAdjustedClassifier(D, C, tau=tau)), held_out().features
    expected = linear()(features) - tau * torch.tensor([math.log(int(n) / 54) for n in COUNTS])
    torch.testing.assert_close(classifier(features), expected)


@pytest.mark.parametrize("cls", [TauNormClassifier, LogitAdjustedClassifier])
def test_tau_is_the_smallest_of_the_best_on_held_out_images(cls: Any) -> None:
    images = held_out()
    by_tau = {}
    for step in range(21):
        by_tau[step / 10] = accuracy(fitted(cls(D, C, tau=step / 10))(images.features), images.targets)
    best = min(tau for tau, value in by_tau.items() if value == max(by_tau.values()))
    chosen = fitted(cls(D, C), images)
    assert chosen.chosen == {"tau": best}
    assert by_tau[0.0] < by_tau[best]
    assert accuracy(chosen(images.features), images.targets) == by_tau[best]
    assert chosen.wanting == "tau"
    given = fitted(cls(D, C, tau=0.3), images)
    assert given.chosen == {"tau": 0.3}
    assert given.wanting is None
    with pytest.raises(SettingError, match=r"^tau must be given"):
        fitted(cls(D, C))
    with pytest.raises(SettingError, match=r"^tau must be null or >= 0, got -1"):
        cls(D, C, tau=-1)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("feature_norm", ["none", "l2"])
def test_the_nearest_mean(distance: str, feature_norm: str) -> None:
    classifier = NearestMeanClassifier(D, C, distance=distance, feature_norm=feature_norm)
    counts, means = torch.tensor([40, 0, 3, 1]), centroids().double()
    classifier.double().fit(None, means, counts)
    features = 7 * held_out().features
    logits = classifier(features)
    assert bool((logits[:, 1] == -math.inf).all()), "a class without images is never predicted"
    origin = means[[0, 2, 3]].mean(0)
    for i, z in enumerate(features):
        point = z / z.norm() if feature_norm == "l2" else z
        for c in (0, 2, 3):
            a, b = point, means[c]
            if distance == "cosine":
                a, b = (a - origin) / (a - origin).norm(), (b - origin) / (b - origin).norm()
            torch.testing.assert_close(logits[i, c], -(a - b).norm())


@pytest.mark.parametrize("form", ["un", "l2n", "cl2n"])
def test_the_nearest_mean_has_kangs_three_forms(form: str) -> None:
    """Means of features as they are, of unit ones, and of unit ones after the mean of all images is taken off."""
    features, targets = held_out()
    statistics = class_statistics(features, targets, C)
    classifier = NearestMeanClassifier(D, C, form=form).double()
    classifier.fit(None, statistics.centroids.double(), statistics.counts)
    if classifier.measures:
        measured = classifier.measured(features)
        classifier.set_means(class_statistics(measured, targets, C).centroids)
    origin = features.mean(0) if form == "cl2n" else torch.zeros(D)

    def point(z: Tensor) -> Tensor:
        return z if form == "un" else (z - origin) / (z - origin).norm()

    means = {c: sum(point(z) for z in features[targets == c]) / int((targets == c).sum()) for c in (0, 2, 3)}
    logits = classifier(features)
    for i, z in enumerate(features):
        for c, mean in means.items():
            torch.testing.assert_close(logits[i, c], -(point(z) - mean).norm(), rtol=1e-5, atol=1e-5)  # type: ignore[operator]
    with pytest.raises(SettingError, match=r"^form must be null or one of .*'cl2n'.* got 'l2'"):
        NearestMeanClassifier(D, C, form="l2")


@pytest.mark.parametrize("form", ["un", "cl2n"])
def test_a_stage_measures_the_means_of_its_form(form: str, tmp_path: Path) -> None:
    short = ("trainer=cpu", "method=ncm", "schedule.stages.train.epochs=1")
    train_composed(tmp_path, *short, f"schedule.stages.rebalance.classifier_args={{form:{form}}}")
    state = torch.load(tmp_path / "checkpoints" / "rebalance.ckpt", weights_only=True)["state_dict"]
    means, centroids = state["classifiers.rebalance.means"], state["centroids"]
    assert torch.equal(means, centroids) == (form == "un")


def test_smdragons_softmax_of_sigmoids() -> None:
    """DRAGON's last layer: p times the softmax over the classes of the sigmoids, normalised."""
    images = held_out()
    classifier = fitted(SmDragonClassifier(D, C, degree=2, weights="softmax"), images)
    p = linear()(images.features).softmax(1).detach()
    a = p @ classifier.coefficients.T + classifier.offset
    shares = COUNTS.double() / 40
    weights = (a[:, :1] + a[:, 1:] * shares).sigmoid().softmax(1)
    expected = p * weights / (p * weights).sum(1, keepdim=True)
    torch.testing.assert_close(classifier(images.features).exp(), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(SettingError, match=r"^weights must be one of .'sigmoid', 'softmax'., got 'none'"):
        SmDragonClassifier(D, C, weights="none")


def test_smdragon_reweights_by_a_polynomial() -> None:
    images = held_out()
    classifier = fitted(SmDragonClassifier(D, C, degree=3), images)
    a, a0 = classifier.coefficients, classifier.offset
    assert bool(a.any())
    for z, logits in zip(images.features, classifier(images.features), strict=True):
        p = linear()(z[None])[0].softmax(0).detach()
        weighted = []
        for c in range(C):
            polynomial = sum(
                (float(a0[j]) + sum(float(a[j, k] * p[k]) for k in range(C))) * (int(COUNTS[c]) / 40) ** j
                for j in range(3)
            )
            weighted.append(float(p[c]) / (1 + math.exp(-polynomial)))
        expected = torch.tensor([value / sum(weighted) for value in weighted], dtype=torch.float64)
        torch.testing.assert_close(logits.exp(), expected, rtol=1e-4, atol=1e-6)


def test_smdragon_starts_as_the_expert_and_helps_where_it_is_biased(tmp_path: Path) -> None:
    images = held_out()
    untouched = SmDragonClassifier(D, C).double()
    untouched.begin(linear(), generator=generator())
    torch.testing.assert_close(untouched(images.features).exp(), linear()(images.features).softmax(1))
    classifier = fitted(SmDragonClassifier(D, C), images)
    before = accuracy(linear()(images.features), images.targets)
    assert accuracy(classifier(images.features), images.targets) > before
    # A published run takes over what a holdout run has fitted.
    torch.save(
        {"state_dict": nn.ModuleDict({"rebalance": classifier}).state_dict(prefix="classifiers.")}, tmp_path / "x.ckpt"
    )
    taken = fitted(SmDragonClassifier(D, C, source=str(tmp_path / "x.ckpt")))
    torch.testing.assert_close(taken(images.features), classifier(images.features))
    assert taken.wanting is None
    with pytest.raises(SettingError, match=r"^source must hold a smDRAGON of this degree"):
        fitted(SmDragonClassifier(D, C, degree=2, source=str(tmp_path / "x.ckpt")))
    with pytest.raises(SettingError, match=r"^source must be given"):
        fitted(SmDragonClassifier(D, C))


@pytest.mark.parametrize("cls", [TauNormClassifier, LogitAdjustedClassifier, NearestMeanClassifier, SmDragonClassifier])
def test_nothing_is_left_to_train(cls: Any, tmp_path: Path) -> None:
    classifier = fitted(cls(D, C), held_out())
    assert not list(classifier.parameters())
    features = held_out().features.clone().requires_grad_()
    assert classifier(features).requires_grad, "a backbone may learn through it"
    again = cls(D, C).double()
    again.load_state_dict(classifier.state_dict())
    assert torch.equal(again(held_out().features), classifier(held_out().features))
    half = classifier.float()(held_out().features.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = classifier(held_out().features.bfloat16())
    torch.testing.assert_close(rough.float().exp(), half.exp(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("cls", [TauNormClassifier, LogitAdjustedClassifier, SmDragonClassifier])
@pytest.mark.parametrize("previous", [None, CosineClassifier(D, C)])
def test_a_linear_classifier_has_to_come_first(cls: Any, previous: nn.Module | None) -> None:
    with pytest.raises(TypeError, match=f"^previous must be a linear classifier.* got {type(previous).__name__}$"):
        cls(D, C).begin(previous, generator=generator())


def oltr() -> OLTRClassifier:
    classifier = OLTRClassifier(D, C, scale=16.0).double()
    classifier.begin(None, generator=generator())
    classifier.fit(None, centroids(), COUNTS)
    return classifier


def test_oltr_is_its_formula() -> None:
    classifier, features = oltr(), held_out(7).features
    memory = centroids().double()
    logits = classifier(features)
    for z, row in zip(features, logits, strict=True):
        attention = (classifier.hallucinator.weight @ z + classifier.hallucinator.bias).softmax(0)
        recalled = sum(attention[c] * memory[c] for c in range(C))
        selector = (classifier.selector.weight @ z + classifier.selector.bias).tanh()
        reach = 10 / min(float((z - memory[c]).norm()) for c in range(C))
        v = reach * (z + selector * recalled)
        for c in range(C):
            w = classifier.weight[c]
            cosine = v @ w / (v.norm() * w.norm())
            torch.testing.assert_close(row[c], 16 * v.norm() / (1 + v.norm()) * cosine)
    assert bool((logits.abs() < 16).all())


def test_oltr_recalls_by_the_classifier_before() -> None:
    previous = LinearClassifier(D, C).double()
    classifier = OLTRClassifier(D, C).double()
    classifier.begin(previous, generator=generator())
    z = held_out(3).features
    torch.testing.assert_close(classifier.hallucinator(z), previous(z))
    assert not torch.equal(classifier.weight, previous.weight)
    classifier.begin(CosineClassifier(D, C), generator=generator())  # has no bias: drawn
    assert not torch.equal(classifier.hallucinator.weight, previous.weight)


def test_no_gradient_of_the_logits_reaches_the_memory() -> None:
    classifier = oltr()
    nn.functional.cross_entropy(classifier(held_out(9).features), held_out(9).targets).backward()
    learns = {name for name, p in classifier.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learns == {"weight", "hallucinator.weight", "hallucinator.bias", "selector.weight", "selector.bias"}


def test_oltr_is_finite_at_a_centroid_and_in_half_precision() -> None:
    classifier = oltr()
    features = centroids().double().requires_grad_()
    logits = classifier(features)
    logits.sum().backward()
    assert bool(logits.isfinite().all())
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = classifier.float()(held_out().features.bfloat16())
    torch.testing.assert_close(rough.float(), classifier(held_out().features.float()), rtol=0.1, atol=0.5)


def test_held_out_features_of_all_ranks() -> None:
    features, targets = torch.arange(22.0).view(11, 2), torch.arange(11)
    for found, labels in on_ranks(3, shard_features, features, targets):
        assert sorted(labels.tolist()) == list(range(11))
        assert torch.equal(found, features[labels])


def test_published_needs_the_number_and_takes_it(tmp_path: Path) -> None:
    from drolt_pl.errors import SettingError

    short = ("trainer=cpu", "method=tau_norm", "schedule.stages.train.epochs=1")
    results = train_composed(tmp_path / "holdout", *short)
    assert results["chosen"].keys() == {"tau"}
    assert results["selection"]["metric"] == "val/acc"
    with pytest.raises(
        SettingError, match=r"stages\.rebalance\.classifier_args=\{tau: \.\.\.\} must be given.*published"
    ):
        train_composed(tmp_path / "refused", *short, "protocol=published")
    given = "schedule.stages.rebalance.classifier_args={tau:0.4}"
    assert train_composed(tmp_path / "published", *short, "protocol=published", given)["chosen"] == {"tau": 0.4}


@pytest.mark.slow
def test_two_ranks_fit_one_classifier(tmp_path: Path) -> None:
    """No epoch is run for the fit, and DDP still finishes."""
    done = forked(
        "trainer=cpu",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "method=tau_norm",
        "schedule.stages.train.epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["chosen"].keys() == {"tau"}
    assert results["images_seen"] == sum(results["class_counts"]) // 2 * 2
