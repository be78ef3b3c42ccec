"""Malformed command lines: the configuration of every group, walked, and each key with values that it cannot have."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from drolt_pl.run.compose import composed
from helpers.running import HOME

CONF = HOME / "conf"
# Values by kind, as typed.
VALUES = {
    "wrong type": ("maybe", "true", "'1'", "1.5", "[1,2]", "{a:1}"),
    "null": ("null",),
    "list": ("[]", "[null]", "[[1]]", "[1,two]"),
    "mapping": ("{}", "{a:{b:1}}"),
    "nan": ("nan", "'nan'"),
    "inf": ("inf", "-inf"),
    "negative": ("-1", "-0.5", "-3"),
    "zero": ("0",),
    "huge": ("1e300", "100000000000000000000", "987654321987"),
    "empty": ("''", ""),
    "unicode": ("'äöü😀'", "'\\u202e'", "'٣'"),
    "path": ("'../../x'", "/dev/null"),
}
KINDS = (*VALUES, "misspelt", "removed", "added", "below")
# Beside the defaults; each is a line of overrides whose configuration is walked.
BASES = (
    "",
    *(f"method={path.stem}" for path in sorted((CONF / "method").glob("*.yaml"))),
    *(f"augment={path.stem}" for path in sorted((CONF / "augment").glob("*.yaml")) if path.stem != "none"),
    *(f"criterion={path.stem} classifier=cosine" for path in sorted((CONF / "criterion").glob("*.yaml"))),
    *(f"classifier={name}" for name in ("cosine", "oltr", "linear")),
    *(f"backbone={name}" for name in ("resnet20", "timm")),
    *(f"dataset={path.stem}" for path in sorted((CONF / "dataset").glob("*.yaml"))),
    *(f"trainer={name}" for name in ("auto", "debug", "ddp")),
    *(f"logger={name}" for name in ("csv", "wandb", "tensorboard")),
    *(f"schedule={path.stem}" for path in sorted((CONF / "schedule").glob("*.yaml")) if path.stem != "large_scale"),
    "+stage=pretrain schedule.order=[pretrain]",
    "loss.likelihood=class",
    "loss.eps_mode=learned",
)


@dataclass(frozen=True)
class Case:
    """A command line with one thing wrong.

    Attributes:
        base: What is chosen beside it.
        kind: What is wrong.
        key: The key that it is wrong at, as the sentence is to name it.
        words: The command line.
    """

    base: str
    kind: str
    key: str
    words: tuple[str, ...]

    def plain(self) -> dict[str, object]:
        return asdict(self)


def malformed(number: int, seed: int) -> list[Case]:
    """So many cases, of every base and kind in turn; the same for a seed."""
    generator = random.Random(seed)
    keys = {base: _keys(base) for base in BASES}
    cases: dict[tuple[str, ...], Case] = {}
    while len(cases) < number:
        base, kind = BASES[len(cases) % len(BASES)], generator.choice(KINDS)
        # What a base changes is walked as often as all that it leaves as it is.
        own = [key for key in keys[base] if key not in keys[""]] if generator.random() < 0.5 else []
        case = _case(generator, base, kind, generator.choice(own or keys[base]))
        cases.setdefault(case.words, case)
    return list(cases.values())


def choices() -> Iterator[Case]:
    """Choices of groups that are no names in them."""
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "experiment")):
        for value in ("null", "[a,b]", "''", "../classifier/linear", "'ä'", "5", "{a:1}", "nothing_of_the_kind"):
            word = f"{folder.name}={value}"
            yield Case("", "choice", folder.name, (word,))


def _keys(base: str) -> list[str]:
    """Every key of a configuration, of mappings too; not those of `hydra`."""
    values = OmegaConf.to_container(composed(CONF, base.split()), resolve=False)
    return sorted(_walked(values, ""))


def _walked(node: object, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if isinstance(name, str) and name.replace("_", "").isalnum():
                key = f"{prefix}.{name}" if prefix else name
                yield key
                yield from _walked(value, key)


def _case(generator: random.Random, base: str, kind: str, key: str) -> Case:
    parent, _, last = key.rpartition(".")
    beside = f"{parent}." if parent else ""
    if kind == "misspelt":
        place = generator.randrange(len(last))
        wrong = f"{beside}{last[:place]}{last[place + 1 :]}x"
        return Case(base, kind, wrong, (*base.split(), f"{wrong}=1"))
    if kind == "removed":
        return Case(base, kind, key, (*base.split(), f"~{key}"))
    if kind == "added":
        return Case(base, kind, f"{beside}unheard_of", (*base.split(), f"+{beside}unheard_of=1"))
    if kind == "below":
        return Case(base, kind, key, (*base.split(), f"++{key}.unheard_of=1"))
    return Case(base, kind, key, (*base.split(), f"++{key}={generator.choice(VALUES[kind])}"))


def roots(folder: Path) -> list[str]:
    """What data sets need to be found, as overrides by data set; written to a folder."""
    from helpers.images import write_image_tree

    root = write_image_tree(folder / "images", classes=3, train=30, test=3, size=8)
    lines = ["path,label", *(f"{path.relative_to(root)},{path.parent.name}" for path in root.glob("train/*/*"))]
    (folder / "list.csv").write_text("\n".join(lines))
    return [f"dataset.root={root}", f"dataset.manifest={folder / 'list.csv'}"]
