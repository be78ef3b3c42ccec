"""Tables for the terminal: what a model is, and how good it is."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from drolt_pl.predict.evaluate import Evaluation
from drolt_pl.predict.info import Info
from drolt_pl.predict.reliability import Sets, Strangers, Temperature
from drolt_pl.results import Accuracies

MATRIX = 12  # classes up to which the whole confusion matrix is shown
LISTED = 10  # confusions that are listed of more classes
COLUMNS = {
    "All": "acc",
    "Many": "many",
    "Medium": "medium",
    "Few": "few",
    "Images": "acc_micro",
    "Nearest centroid": "acc_ncm",
    "ECE": "ece",
}


def info_tables(found: Info) -> list[Table]:
    """Facts, and shot groups."""
    facts = Table(show_header=False)
    for name, value in found.facts.items():
        facts.add_row(name, escape(value))
    groups = _table("Classes by training images", "Group", ["Classes", "Images"])
    groups.add_column("Such as", overflow="fold")
    for group in found.groups:
        images = "-" if group.images is None else f"{group.images:,}"
        groups.add_row(group.name, f"{group.classes:,}", images, escape(", ".join(group.examples)))
    return [facts, groups]


def evaluation_tables(found: Evaluation) -> list[Table]:
    """Accuracies, by class, and what is confused with what."""
    tables = [_accuracies(found), _classes(found), _matrix(found) if len(found.classes) <= MATRIX else _confused(found)]
    if found.temperature is not None and found.sets is not None:
        tables.append(_sets(found.temperature, found.sets))
    return tables if found.strangers is None else [*tables, _strangers(found.strangers)]


def _sets(fitted: Temperature, sets: Sequence[Sets]) -> Table:
    title = f"Conformal sets for a coverage of {_percent(sets[0].level)} %: coverage in %, means over classes"
    table = _table(title, "Thresholds", ["All", "Many", "Medium", "Few", "Classes in a set", "In every set"])
    for row in sets:
        cells = [_percent(value) for value in (row.coverage, row.many, row.medium, row.few)]
        table.add_row(row.kind, *cells, f"{row.size:.2f}", f"{row.unlimited:,}")
    (nll, nll_after), (ece, ece_after) = fitted.nll, fitted.ece
    table.caption = (
        f"From {fitted.images:,} held-out images. Temperature {fitted.temperature:.3f}: negative log-likelihood "
        f"{nll:.3f} -> {nll_after:.3f}, ECE {_percent(ece)} -> {_percent(ece_after)} %"
    )
    return table


def _strangers(rows: Sequence[Strangers]) -> Table:
    title = f"Images of a class above {rows[0].images:,} images of none: AUROC in %"
    table = _table(title, "Score", ["All", "Many", "Medium", "Few"])
    for row in rows:
        table.add_row(row.score, *(_percent(value) for value in (row.auroc, row.many, row.medium, row.few)))
    return table


def _accuracies(found: Evaluation) -> Table:
    title = f"{found.images:,} images: accuracy in %; All and the groups are means over classes"
    table = _table(title, "Probabilities", COLUMNS)
    if found.as_trained is not None:
        table.add_row(f"as trained (prior: {found.model_prior})", *_cells(found.as_trained))
    name = "as trained" if found.as_trained is None else "re-weighted"
    table.add_row(name, *_cells(found.accuracies), style="bold")
    if found.test_prior_error is not None:
        off = f"{found.test_prior_error:.3f} off the labels' (total variation)"
        table.caption = f"Re-weighted to class frequencies: {escape(str(found.test_prior_source))}, {off}"
    return table


def _classes(found: Evaluation) -> Table:
    reweighted = found.test_prior is not None
    numbers = ["Trained on", "Images", "Accuracy", "Nearest centroid", *(["Share, re-weighted to"] * reweighted)]
    table = _table("By class, in %", "Class", ["Group", *numbers])
    for row in found.classes:
        trained = "-" if row.train_images is None else f"{row.train_images:,}"
        cells = [row.group or "-", trained, f"{row.images:,}", _percent(row.acc), _percent(row.acc_ncm)]
        shares = [] if found.test_prior is None else [_percent(found.test_prior[row.name])]
        table.add_row(escape(row.name), *cells, *shares)
    return table


def _matrix(found: Evaluation) -> Table:
    names = [escape(row.name) for row in found.classes]
    table = _table("Images by class (rows) and prediction (columns)", "", names)
    for name, counts in zip(names, found.confusion, strict=True):
        table.add_row(name, *(f"{count:,}" if count else "·" for count in counts))
    return table


def _confused(found: Evaluation) -> Table:
    names = [row.name for row in found.classes]
    table = _table("Most frequent confusions", "Class", ["Taken for", "Images", "Of the class, %"])
    wrong = [
        (count, true, predicted)
        for true, counts in enumerate(found.confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    for count, true, predicted in sorted(wrong, key=lambda entry: (-entry[0], *entry[1:]))[:LISTED]:
        share = _percent(count / found.classes[true].images)
        table.add_row(escape(names[true]), escape(names[predicted]), f"{count:,}", share)
    return table


def _table(title: str, first: str, rest: Sequence[str] | dict[str, str]) -> Table:
    table = Table(title=title)
    table.add_column(first, overflow="fold")
    for label in rest:
        table.add_column(label, justify="right")
    return table


def _cells(measured: Accuracies) -> list[str]:
    numbers = measured.numbers()
    return [_percent(numbers.get(metric)) for metric in COLUMNS.values()]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
