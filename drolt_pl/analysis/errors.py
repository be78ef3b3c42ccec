"""The paper's Figure 4, train and test error by class, and its Appendix D, accuracy against the loss's settings."""

from collections.abc import Iterable, Mapping, Sequence

from drolt_pl.groups import group_of
from drolt_pl.results import Groups
from drolt_pl.rows import Row


def class_errors(
    train: Sequence[float | None], test: Sequence[float | None], counts: Sequence[int], groups: Groups
) -> list[Row]:
    """Train and test error of each class, the largest class first.

    Args:
        train: Training accuracy by class, (C,), null where there are no images; `test` likewise.
        test: Test accuracy by class, (C,).
        counts: Training images by class, (C,).
        groups: Limits of the shot groups.

    Returns:
        Rows `class, images, group, train_error, test_error`, fractions; classes with a null are left out.
    """
    return [
        {
            "class": index,
            "images": counts[index],
            "group": group_of(counts[index], groups.many, groups.few),
            "train_error": 1 - of_train,
            "test_error": 1 - of_test,
        }
        for index in sorted(range(len(counts)), key=lambda index: -counts[index])
        if (of_train := train[index]) is not None and (of_test := test[index]) is not None
    ]


def sensitivity(runs: Iterable[tuple[Mapping[str, float], float, float]]) -> list[Row]:
    """Appendix D: accuracy of runs against each number that they differ in.

    Args:
        runs: For each run its numbers by key, its validation accuracy and its test accuracy.

    Returns:
        Rows `key, value, val, test`, a row for each run and key that takes more than one value.
    """
    found = list(runs)
    keys = sorted({key for values, _, _ in found for key in values})
    varied = [key for key in keys if len({values[key] for values, _, _ in found if key in values}) > 1]
    return [
        {"key": key, "value": value, "val": val, "test": test}
        for key in varied
        for value, val, test in sorted((values[key], val, test) for values, val, test in found if key in values)
    ]
