"""How far a difference between two methods carries: over seeds, and over test images."""

import numpy as np
from numpy.typing import NDArray

DRAWS = 2_000
MOST_SEEDS = 10_000
POWER = 0.8

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bootstrap_difference(
    ours: Floats, theirs: Floats, images: Ints, classes: NDArray[np.bool_], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of a difference in mean class accuracy over test images drawn anew.

    The images of a class are drawn with replacement, so the right ones are binomial. Which images are right is not
    known, and what is not known is taken at its widest. The runs of one side see the same images, so their draws rise
    and fall together: more seeds are no more images. The two sides are drawn on their own: where both are right on the
    same images, the interval is too wide.

    Args:
        ours: Accuracy by run and class, (R, C).
        theirs: Of the runs that they are paired with, (R, C).
        images: Test images by class, (R, C).
        classes: The classes of the mean, (R, C), since splits may cut classes differently; those without an image are
            left out.
        draws: Number of draws.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    means = []
    for accuracy in (ours, theirs):
        total = np.zeros(draws)
        order = generator.random((draws, images.shape[1])).argsort(0)  # of a class's draws, the same in every run
        for run, count, member in zip(accuracy, images, classes, strict=True):
            chosen = member & (count > 0)
            right = generator.binomial(count[chosen], np.clip(run[chosen], 0, 1), size=(draws, chosen.sum()))
            right.sort(0)
            total += (np.take_along_axis(right, order[:, chosen], 0) / count[chosen]).mean(1)
        means.append(total / len(accuracy))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def seeds_needed(difference: float, deviation: float, power: float = POWER) -> int | None:
    """Pairs of runs with which a two-sided paired t-test at 5 % finds a difference with this power.

    Args:
        difference: The true difference, > 0.
        deviation: Standard deviation of the paired differences.
        power: Probability to find it.

    Returns:
        At least 2; null above `MOST_SEEDS`.
    """
    from scipy import stats  # most commands need no scipy

    def found(n: int) -> float:
        quantile = stats.t.ppf(0.975, n - 1)
        return float(stats.nct.sf(quantile, n - 1, difference * n**0.5 / max(deviation, 1e-12)))

    low, high = 1, 2
    while found(high) < power:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high
