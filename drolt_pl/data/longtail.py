"""Which images train, validate and test: profiles, protocols, and the split that both decide."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

PROFILES = ("exp", "step")
PROTOCOLS = ("holdout", "published", "test_selected")
CLASS_ORDERS = ("label", "shuffled")
PARTS = ("train", "val", "test", "pool")


def require_int(field: str, value: object, *, at_least: int) -> None:
    """Refuse a setting that is not an integer or too small, in one sentence that names it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{field} must be an integer >= {at_least}, got {value!r}")


def profile_counts(num_classes: int, n_max: int, imbalance_ratio: float, profile: str = "exp") -> IntArray:
    r"""Images per class, most frequent first, as the long-tailed CIFAR sets are cut (Cao et al. 2019, LDAM-DRW).

    `exp`: \(n_c = \lfloor n_{max} \rho^{-c / (C - 1)} \rfloor\), \(\rho\) the imbalance ratio.
    `step`: the first half of the classes keeps \(n_{max}\), the others \(\lfloor n_{max} / \rho \rfloor\).

    Args:
        num_classes: C, at least 2.
        n_max: Images of the most frequent class.
        imbalance_ratio: n_max / n_min, at least 1.
        profile: One of `PROFILES`.

    Returns:
        Counts, (C,), int64, not increasing. Truncated, not rounded: the published totals come out that way.
    """
    rank = np.arange(num_classes)
    if profile == "exp":
        share = float(imbalance_ratio) ** (-rank / (num_classes - 1))
    elif profile == "step":
        share = np.where(rank < num_classes // 2, 1.0, 1.0 / imbalance_ratio)
    else:
        raise ValueError(f"profile must be one of {PROFILES}, got {profile!r}")
    # A product such as 500 * 100 ** -1 may come out a hair under the integer that it is.
    return np.floor(n_max * share + 1e-9).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How a pool of images becomes a long-tailed data set.

    Attributes:
        protocol: `holdout` keeps validation images out of the pool (unless the data set brings official ones),
            `published` trains on the full pool without validation, `test_selected` validates on the test set.
        imbalance_ratio: n_max / n_min of the cut, >= 1, or None to keep the pool's own (natural) tail.
        profile: Shape of the cut, one of `PROFILES`.
        n_max: Images of the most frequent class; None is the largest class of the pool.
        class_order: `label`: class 0 is the most frequent; `shuffled`: `split_seed` decides which classes are.
        val_per_class: Validation images a class under `holdout`; a natural tail gives at most a fifth of a class.
        test_per_class: Test images a class, taken first, when the data set has no test part of its own.
        split_seed: Decides the subset, alone.
    """

    protocol: str = "holdout"
    imbalance_ratio: float | None = 100.0
    profile: str = "exp"
    n_max: int | None = None
    class_order: str = "label"
    val_per_class: int = 20
    test_per_class: int = 20
    split_seed: int = 0

    def __post_init__(self) -> None:
        for field, allowed in (("protocol", PROTOCOLS), ("profile", PROFILES), ("class_order", CLASS_ORDERS)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {allowed}, got {getattr(self, field)!r}")
        ratio = self.imbalance_ratio
        if ratio is not None and (not isinstance(ratio, int | float) or not ratio >= 1):
            raise ValueError(f"imbalance_ratio must be >= 1, or null to keep the natural tail, got {ratio!r}")
        if self.imbalance_ratio is None and self.class_order != "label":
            raise ValueError(
                f"class_order must be 'label' when imbalance_ratio is null (the data decide), got {self.class_order!r}"
            )
        if self.n_max is not None:
            require_int("n_max", self.n_max, at_least=1)
        require_int("val_per_class", self.val_per_class, at_least=1)
        require_int("test_per_class", self.test_per_class, at_least=1)
        require_int("split_seed", self.split_seed, at_least=0)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Indices into the data set's list of images; disjoint, but for `test_selected`, where val is test.

    Attributes:
        train, val, test: Sorted indices, int64.
        pool: What a profile cut away: a second, larger test set, neither trained nor validated on.
        class_counts: Training images per class id, (C,).
        classes_without_val, classes_without_test: Classes too small to give an image to that part.
        hashes: SHA-256 of each part, over its indices, image names and targets.
        sha256: One hash over `hashes`.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    pool: IntArray
    class_counts: IntArray
    classes_without_val: int
    classes_without_test: int
    hashes: dict[str, str]
    sha256: str

    def record(self) -> dict[str, Any]:
        """The split as plain JSON values."""
        return {
            "class_counts": self.class_counts.tolist(),
            "classes_without_val": self.classes_without_val,
            "classes_without_test": self.classes_without_test,
            "sha256": self.sha256,
            "sha256_parts": dict(self.hashes),
            "indices": {part: getattr(self, part).tolist() for part in PARTS},
        }


def make_split(
    targets: IntArray, official: NDArray[np.str_], names: NDArray[np.bytes_], class_names: list[str], rules: SplitRules
) -> Split:
    """Divide a data set's images.

    From each class's images in a random order fixed by `split_seed`, the test images are taken first (if the data
    set has none of its own), then validation, then training; the rest is the pool. So a smaller imbalance ratio
    trains on a superset of what a larger one trains on, with the same validation and test images.

    Args:
        targets: Class of every image, (N,).
        official: The part each image comes in, (N,): "train", "val" or "test".
        names: What identifies each image on any machine, (N,): enters the hash.
        class_names: C names, for messages.
        rules: See `SplitRules`.

    Raises:
        ValueError: a class would be left without training images.
    """
    num_classes = len(class_names)
    available = np.flatnonzero(official == "train")
    shuffled = available[_permutation(len(available), "split", rules.split_seed)]
    ordered = shuffled[np.argsort(targets[shuffled], kind="stable")]  # class by class, each in random order
    pool_counts = np.bincount(targets[ordered], minlength=num_classes)
    if num_classes < 2:
        raise ValueError(f"root: at least two classes are needed, got {num_classes}; check the folder or the list")
    for class_id in np.flatnonzero(pool_counts == 0):
        raise ValueError(f"root: class {class_names[class_id]!r} has no training images; add some or remove the class")

    has_test, has_val = bool((official == "test").any()), bool((official == "val").any())
    natural = rules.imbalance_ratio is None
    no_images = np.zeros(num_classes, np.int64)
    test_counts = no_images if has_test else _held_out(pool_counts, rules.test_per_class, natural)
    left = pool_counts - test_counts
    takes_val = rules.protocol == "holdout" and not has_val
    val_counts = _held_out(left, rules.val_per_class, natural) if takes_val else no_images
    train_counts = left - val_counts
    for class_id in np.flatnonzero(train_counts < 1):
        field = "val_per_class" if takes_val else "test_per_class"
        raise ValueError(
            f"{field}={getattr(rules, field)} leaves class {class_names[class_id]!r} without training images, of "
            f"{pool_counts[class_id]} in all; lower it"
        )
    if rules.imbalance_ratio is not None:
        train_counts = np.minimum(_wanted_counts(int(left.max()), num_classes, rules), train_counts)

    # Place of each image within its class, then the part that this place belongs to.
    place = np.arange(len(ordered)) - np.repeat(np.cumsum(pool_counts) - pool_counts, pool_counts)
    ends = np.cumsum([test_counts, val_counts, train_counts], axis=0)[:, targets[ordered]]
    part_of = (place >= ends).sum(axis=0)  # 0 test, 1 val, 2 train, 3 pool
    test, val, train, pool = (np.sort(ordered[part_of == part]) for part in range(4))
    if has_test:
        test = np.flatnonzero(official == "test")
    if rules.protocol == "holdout" and has_val:
        val = np.flatnonzero(official == "val")
    if rules.protocol == "test_selected":
        val = test.copy()

    parts = {"train": train, "val": val, "test": test, "pool": pool}
    hashes = {part: _sha256(indices, names, targets) for part, indices in parts.items()}
    return Split(
        **parts,
        class_counts=train_counts,
        classes_without_val=_absent(val, targets, num_classes) if len(val) else 0,
        classes_without_test=_absent(test, targets, num_classes),
        hashes=hashes,
        sha256=hashlib.sha256("".join(hashes[part] for part in PARTS).encode()).hexdigest(),
    )


def _held_out(counts: IntArray, per_class: int, natural: bool) -> IntArray:
    # A fifth at most, so that a natural tail's rare classes stay trainable.
    return np.minimum(per_class, counts // 5) if natural else np.minimum(per_class, counts)


def _wanted_counts(largest: int, num_classes: int, rules: SplitRules) -> IntArray:
    """What the profile asks of each class id, (C,); `largest` is the number of images of the largest class."""
    assert rules.imbalance_ratio is not None
    n_max = largest if rules.n_max is None else rules.n_max
    if n_max > largest:
        raise ValueError(f"n_max={n_max} is more than the {largest} images of the largest class; lower it")
    counts = profile_counts(num_classes, n_max, rules.imbalance_ratio, rules.profile)
    if counts[-1] < 1:
        raise ValueError(
            f"imbalance_ratio={rules.imbalance_ratio} leaves the rarest class without images, n_max being {n_max}; "
            "lower it"
        )
    if rules.class_order == "label":
        return counts
    return counts[_permutation(num_classes, "class_order", rules.split_seed)]


def _absent(indices: IntArray, targets: IntArray, num_classes: int) -> int:
    return num_classes - len(np.unique(targets[indices]))


def _permutation(size: int, stream: str, seed: int) -> IntArray:
    """A permutation that no machine and no NumPy release may change.

    NumPy promises to keep the raw bits of PCG64, but not what `Generator.permutation` makes of them.
    """
    entropy = hashlib.sha256(f"{stream}/{seed}".encode()).digest()
    bits = np.random.PCG64(int.from_bytes(entropy, "little")).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int64)


def _sha256(indices: IntArray, names: NDArray[np.bytes_], targets: IntArray) -> str:
    digest = hashlib.sha256()
    for array in (indices, targets[indices]):
        digest.update(array.astype("<i8").tobytes())  # little-endian on every machine
    for start in range(0, len(indices), 65536):  # in pieces: half a million Python objects would outweigh the data
        digest.update(b"".join(name + b"\n" for name in names[indices[start : start + 65536]].tolist()))
    return digest.hexdigest()
