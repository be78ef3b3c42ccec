"""Samplers: streams over ranks, frequencies, blocks, lengths."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.data_tools import random_state
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from drolt_pl.data.epoch_sampler import EpochSampler
from drolt_pl.data.plan import Sampling, rank_positions, stage_progress
from drolt_pl.data.samplers import (
    SAMPLERS,
    EffectiveNumberSampler,
    ProgressiveSampler,
    SquareRootSampler,
    stage_sampler,
)
from drolt_pl.errors import SettingError


def halfway(*args: Any, **kwargs: Any) -> ProgressiveSampler:
    return ProgressiveSampler(*args, progress=0.5, **kwargs)


MAKERS = [halfway if sampler is ProgressiveSampler else sampler for sampler in SAMPLERS.values()]
EVERY_SAMPLER = pytest.mark.parametrize("sampler", MAKERS, ids=list(SAMPLERS))
TAIL = np.repeat(np.arange(10), [200, 120, 80, 50, 30, 20, 12, 8, 5, 3])
COUNTS = np.bincount(TAIL)

counts = st.lists(st.integers(1, 30), min_size=1, max_size=12)
epoch_sizes = st.one_of(st.sampled_from(["dataset", "max_class"]), st.integers(8, 300))


def frequencies_fit(drawn: np.ndarray, probabilities: np.ndarray, level: float = 1e-4) -> bool:
    """Whether a chi-square test at that level lets the frequencies pass."""
    observed = np.bincount(drawn, minlength=len(probabilities))
    expected = probabilities * len(drawn)
    return ((observed - expected) ** 2 / expected).sum() < chi2.ppf(1 - level, len(probabilities) - 1)


@settings(max_examples=60)
@given(
    sampler=st.sampled_from(MAKERS),
    counts=counts,
    epoch_size=epoch_sizes,
    world_size=st.integers(1, 4),
    share=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_ranks_together_are_the_one_process_stream(
    sampler: Callable[..., EpochSampler], counts: list[int], epoch_size: Any, world_size: int, share: int, seed: int
) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    settings_ = {"epoch_size": epoch_size, "seed": seed, "epoch": 2, "batch_size": world_size * share}
    try:
        alone = sampler(targets, **settings_)
        ranks = [sampler(targets, rank=rank, world_size=world_size, **settings_) for rank in range(world_size)]
    except ValueError:
        assert sum(counts) < world_size
        return
    streams = [list(rank) for rank in ranks]
    assert len({len(stream) for stream in streams}) == 1
    assert [len(rank) for rank in ranks] == [len(stream) for stream in streams]
    steps = -(-len(streams[0]) // share)
    together = [
        index for step in range(steps) for stream in streams for index in stream[step * share : (step + 1) * share]
    ]
    whole = list(alone)
    assert together == whole[: len(whole) // world_size * world_size]


def test_every_rank_has_its_slice_of_each_batch() -> None:
    positions = [rank_positions(21, batch_size=8, rank=rank, world_size=2).tolist() for rank in range(2)]
    assert positions[0] == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17]
    assert positions[1] == [4, 5, 6, 7, 12, 13, 14, 15, 18, 19]  # image 20 has no partner


@EVERY_SAMPLER
def test_the_epoch_may_be_set_before_each_pass(sampler: Callable[..., EpochSampler]) -> None:
    kept = sampler(TAIL, seed=1)
    kept.epoch = 3
    assert (kept.indices() == sampler(TAIL, seed=1, epoch=3).indices()).all()


@EVERY_SAMPLER
@pytest.mark.parametrize(
    ("targets", "got"),
    [
        ([], "none"),
        ([0, -1], r"int64 of shape \(2,\)"),
        ([0.5, 1.0], r"float64 of shape \(2,\)"),
        (["a"], r"<U1 of shape \(1,\)"),
        ([[0, 1]], r"int64 of shape \(1, 2\)"),
    ],
)
def test_what_are_no_classes_is_refused(sampler: Callable[..., EpochSampler], targets: Any, got: str) -> None:
    with pytest.raises(SettingError, match=f"^targets must be the class of each image, .*, got {got}$"):
        sampler(targets, epoch_size="max_class")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"world_size": 0}, "world_size must be a whole number >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"rank": 2, "world_size": 2, "batch_size": 2}, "rank must be below the 2 processes, got 2"),
        ({"rank": -1, "world_size": 2, "batch_size": 2}, "rank must be a whole number >= 0, got -1"),
        ({"views": 0}, "views must be a whole number >= 1, got 0"),
        ({"streams": 0}, "streams must be a whole number >= 1, got 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"epoch": -1}, "epoch must be a whole number >= 0, got -1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(place: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}$"):
        SAMPLERS["instance"](TAIL, **place)


@EVERY_SAMPLER
def test_numbers_and_targets_of_numpy_and_torch_will_do(sampler: Callable[..., EpochSampler]) -> None:
    kept = sampler(torch.from_numpy(TAIL).to(torch.uint8), seed=np.int64(1), epoch=np.int32(2))
    assert (kept.indices() == sampler(TAIL, seed=1, epoch=2).indices()).all()


@EVERY_SAMPLER
def test_a_stream_depends_on_seed_and_epoch_alone(sampler: Callable[..., EpochSampler]) -> None:
    before = random_state()
    stream = sampler(TAIL, seed=1, epoch=4).indices()
    assert (sampler(TAIL, seed=1, epoch=4).indices() == stream).all()
    assert (sampler(TAIL, seed=1, epoch=5).indices() != stream).any()
    assert (sampler(TAIL, seed=2, epoch=4).indices() != stream).any()
    assert random_state() == before


@EVERY_SAMPLER
@pytest.mark.parametrize(("epoch_size", "length"), [("dataset", 528), ("max_class", 2000), (100, 100), (1234, 1234)])
def test_lengths(sampler: Callable[..., EpochSampler], epoch_size: Any, length: int) -> None:
    drawn = sampler(TAIL, epoch_size=epoch_size)
    assert len(drawn) == length == len(drawn.indices())
    assert drawn.indices().min() >= 0
    assert drawn.indices().max() < len(TAIL)


@EVERY_SAMPLER
def test_classes_without_images_are_never_drawn(sampler: Callable[..., EpochSampler]) -> None:
    targets = np.array([5, 2, 5, 2, 2, 7])
    assert set(targets[sampler(targets, epoch_size=600).indices()]) == {2, 5, 7}
    assert len(sampler(targets, epoch_size="max_class")) == 9


@EVERY_SAMPLER
def test_the_numbers_of_the_classes_do_not_matter(sampler: Callable[..., EpochSampler]) -> None:
    shuffled = np.random.default_rng(0).permutation(TAIL)
    for factor in (7_281, 7_282, 10**6):  # up to 65,529, 65,538 and 9 million, about the largest of 16 bits
        assert (sampler(factor * shuffled).indices() == sampler(shuffled).indices()).all()


def test_instance_sampling_gives_each_image_once_a_pass() -> None:
    sampler = SAMPLERS["instance"]
    assert sorted(sampler(TAIL)) == list(range(528))
    assert np.bincount(sampler(TAIL, epoch_size=3 * 528).indices()).tolist() == [3] * 528


def test_class_balanced_frequencies() -> None:
    drawn = SAMPLERS["class_balanced"](TAIL, epoch_size=20_000, seed=0).indices()
    assert frequencies_fit(TAIL[drawn], np.full(10, 0.1))
    first = drawn[TAIL[drawn] == 0]
    assert frequencies_fit(first, np.full(200, 1 / 200))
    assert not frequencies_fit(TAIL[drawn], np.bincount(TAIL) / len(TAIL))


@pytest.mark.parametrize(
    ("sampler", "weights"),
    [
        (SquareRootSampler(TAIL, epoch_size=20_000), COUNTS**0.5),
        (EffectiveNumberSampler(TAIL, epoch_size=20_000, beta=0.0), COUNTS),
        (EffectiveNumberSampler(TAIL, epoch_size=20_000, beta=0.99), COUNTS * 0.01 / (1 - 0.99**COUNTS)),
        (EffectiveNumberSampler(TAIL, epoch_size=20_000), COUNTS * 0.0001 / (1 - 0.9999**COUNTS)),
        (ProgressiveSampler(TAIL, epoch_size=20_000, progress=0.0), COUNTS / 528),
        (ProgressiveSampler(TAIL, epoch_size=20_000, progress=0.25), 0.75 * COUNTS / 528 + 0.25 / 10),
        (ProgressiveSampler(TAIL, epoch_size=20_000, progress=1.0), np.full(10, 0.1)),
    ],
)
def test_class_frequencies(sampler: EpochSampler, weights: np.ndarray) -> None:
    drawn = sampler.indices()
    assert frequencies_fit(TAIL[drawn], weights / weights.sum())
    first = drawn[TAIL[drawn] == 0]
    assert frequencies_fit(first, np.full(200, 1 / 200))


def test_progress_is_counted_from_the_first_epoch_of_the_stage() -> None:
    def plan(epoch: int) -> Sampling:
        return Sampling("progressive", epochs=4) if 3 <= epoch < 7 else Sampling(epochs=3)

    assert [stage_progress(plan, epoch) for epoch in range(9)] == [0, 1 / 3, 2 / 3, 0, 0.25, 0.5, 0.75, 0, 1 / 3]
    assert stage_progress(lambda epoch: Sampling(epochs=2), 5) == 0.5  # evaluation after the last epoch


@settings(max_examples=60)
@given(counts=counts, per_class=st.integers(1, 6), blocks=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_class_aware_blocks_and_cycles(counts: list[int], per_class: int, blocks: int, seed: int) -> None:
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    stage = Sampling("class_aware", per_class, blocks * per_class)
    drawn = stage_sampler(stage, targets, seed=seed).indices()
    classes = targets[drawn].reshape(blocks, per_class)
    assert (classes == classes[:, :1]).all()
    visits = np.bincount(classes[:, 0], minlength=len(counts))
    assert visits.max() - visits.min() <= 1
    for start in range(0, blocks - len(counts) + 1, len(counts)):  # each class once a round
        assert len(set(classes[start : start + len(counts), 0])) == len(counts)
    for class_id, count in enumerate(counts):
        own = drawn[targets[drawn] == class_id]
        for start in range(0, len(own), count):  # each image once a cycle
            cycle = own[start : start + count]
            assert len(set(cycle)) == len(cycle)


def test_class_aware_shuffles_every_cycle() -> None:
    targets = np.repeat([0, 1], 6)
    drawn = stage_sampler(Sampling("class_aware", 6, 12_000), targets).indices().reshape(-1, 6)
    firsts = drawn[targets[drawn[:, 0]] == 0][:, 0]
    assert frequencies_fit(firsts, np.full(6, 1 / 6))
    order = targets[drawn[:, 0]].reshape(-1, 2)[:, 0]
    assert frequencies_fit(order, np.full(2, 1 / 2))


def test_class_aware_blocks_survive_two_ranks() -> None:
    for rank in range(2):
        sampler = stage_sampler(Sampling("class_aware"), TAIL, batch_size=32, rank=rank, world_size=2)
        blocks = TAIL[sampler.indices()].reshape(-1, 4)
        assert (blocks == blocks[:, :1]).all()


def test_a_full_size_epoch_is_quick() -> None:
    targets = np.repeat(np.arange(8142), np.geomspace(1000, 2, 8142).astype(int))
    drawn = stage_sampler(Sampling("class_aware"), targets).indices()
    assert len(drawn) == len(targets)
    assert len(np.unique(targets[drawn])) == 8142


def test_iterating_gives_plain_integers() -> None:
    assert {type(index) for index in SAMPLERS["instance"](TAIL)} == {int}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EffectiveNumberSampler(TAIL, beta=1.0), r"beta must be in \[0, 1\), got 1.0"),
        (lambda: ProgressiveSampler(TAIL, progress=1.5), r"progress must be in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], EpochSampler], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("stage", "where", "message"),
    [
        (Sampling("resample"), {}, "sampling must be one of .*'class_aware'.*, got 'resample'"),
        (Sampling(epoch_size="full"), {}, "epoch_size must be one of .*, got 'full'"),
        (Sampling(epoch_size=0), {}, "epoch_size must be one of .*, got 0"),
        (Sampling(epoch_size=True), {}, "epoch_size must be one of .*, got True"),
        (Sampling("class_aware", 0), {}, "samples_per_class must be >= 1, got 0"),
        (
            Sampling(),
            {"batch_size": 7, "world_size": 2},
            "batch_size must be divisible by the 2 processes that share it, got 7",
        ),
        (
            Sampling(epoch_size=1),
            {"batch_size": 2, "world_size": 2},
            "epoch_size must give each of the 2 processes an image, got 1",
        ),
    ],
)
def test_wrong_settings_are_named(stage: Sampling, where: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        stage_sampler(stage, TAIL, **where)
