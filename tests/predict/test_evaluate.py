"""What is measured on labelled images, and what re-weighting to other class frequencies does to a trained model."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.models import CLASSES, write_model
from helpers.photos import write_photos
from helpers.running import folder_of_a_run, train_composed
from typer.testing import CliRunner

from drolt_pl import Model, prior
from drolt_pl.cli.app import app
from drolt_pl.errors import SettingError
from drolt_pl.predict.evaluate import Evaluation, PriorWish, evaluate, write
from drolt_pl.predict.files import Pace
from drolt_pl.predict.labelled import Outputs, class_folders, outputs_of_batches, outputs_of_folders
from drolt_pl.predict.tables import evaluation_tables
from drolt_pl.results import Results


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "model.ckpt"))


def quiet(done: int, total: int | None) -> None:
    """No bar."""


def outputs(logits: list[list[float]], targets: list[int], nearest: list[int] | None = None) -> Outputs:
    found = None if nearest is None else torch.tensor(nearest)
    return Outputs(torch.tensor(logits), found, torch.tensor(targets), [])


def test_numbers_by_hand(model: Model, tmp_path: Path) -> None:
    """Two cats, one of them taken for a dog, one dog and no owl."""
    logits = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0]]
    found = evaluate(model, outputs(logits, [0, 0, 1], [0, 0, 2]), PriorWish())
    assert found.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert (found.accuracies.acc, found.accuracies.acc_ncm) == (0.75, 0.5)
    assert found.accuracies.acc_micro == pytest.approx(2 / 3)
    assert (found.accuracies.many, found.accuracies.medium, found.accuracies.few) == (0.5, 1.0, None)
    confidence = torch.tensor(logits).softmax(1).amax(1).tolist()
    right = [1, 0, 1]  # each in a bin of its own
    gaps = sum(abs(a - b) for a, b in zip(confidence, right, strict=True)) / 3
    assert found.accuracies.ece == pytest.approx(gaps, abs=1e-5)
    assert [(row.name, row.group, row.images, row.acc) for row in found.classes] == [
        ("cat", "many", 2, 0.5), ("dog", "medium", 1, 1.0), ("owl", "few", 0, None)]  # fmt: skip
    assert (found.as_trained, found.test_prior, found.model_prior) == (None, None, "train")
    write(tmp_path / "out.json", found)
    assert Evaluation.model_validate_json((tmp_path / "out.json").read_text()) == found
    write(tmp_path / "out.csv", found)
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == {"class": "cat", "group": "many", "train_images": "30", "images": "2", "acc": "0.5",
                       "acc_ncm": "1.0", "test_prior": ""}  # fmt: skip
    with pytest.raises(SettingError, match=r"\.json or \.csv"):
        write(tmp_path / "out.txt", found)


def test_re_weighting_is_bayes(model: Model) -> None:
    logits = [[2.0, 1.0, 0.0]]
    found = evaluate(model, outputs(logits, [1]), PriorWish("uniform"))
    ratio = torch.tensor([1 / 30, 1 / 5, 1 / 2])
    expected = torch.tensor(logits).softmax(1)[0] * ratio
    assert int(expected.argmax()) == 1
    assert found.confusion[1] == [0, 1, 0]
    assert found.as_trained is not None
    assert (found.as_trained.acc, found.accuracies.acc) == (0.0, 1.0)
    assert found.test_prior_error == pytest.approx(2 / 3)
    assert evaluate(model, outputs(logits, [1]), PriorWish("uniform", "uniform")).accuracies.acc == 0.0
    assert len(evaluation_tables(found)) == 3


def test_folders_of_classes(model: Model, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", each=3)
    (photos / "cat" / "phone.HEIC").touch()
    found = outputs_of_folders(model, class_folders(photos, CLASSES), Pace(batch_size=2), quiet)
    assert found.others == {".heic": 1}
    assert found.targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert len(found.unreadable) == 1
    images = model.preprocessing(sorted(photos.rglob("[0-9].jpg")))
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(images), atol=1e-5, rtol=1e-5)
    (photos / "cow").mkdir()
    with pytest.raises(SettingError, match=r"it also has 'cow'; the model's classes are 'cat', 'dog', 'owl'"):
        class_folders(photos, CLASSES)
    with pytest.raises(SettingError, match=r"it also has 'photos'; give .*photos"):
        class_folders(tmp_path, CLASSES)
    with pytest.raises(SettingError, match="must be a folder"):
        class_folders(tmp_path / "nowhere", CLASSES)
    (tmp_path / "one" / "owl").mkdir(parents=True)
    with pytest.raises(SettingError, match="can be read: there is none"):
        outputs_of_folders(model, class_folders(tmp_path / "one", CLASSES), Pace(), quiet)


def test_a_name_in_another_unicode_form_is_the_same_class(tmp_path: Path) -> None:
    names = ["cafe\u0301", "tea", "caf\u00e9"]
    for name in names:
        (tmp_path / name).mkdir()
    found = class_folders(tmp_path, ["tea", "caf\u00e9"])
    assert {path.name: target for path, target in found.items()} == dict(zip(names, (1, 0, 1), strict=True))


def test_many_classes_list_their_confusions(model: Model) -> None:
    found = evaluate(model, outputs([[0.0, 1.0, 0.0]] * 2, [0, 0]), PriorWish())
    many = found.model_copy(
        update={"classes": [*found.classes] * 5, "confusion": [[0, 2] + [0] * 13] + [[0] * 15] * 14}
    )
    assert evaluation_tables(many)[2].title == "Most frequent confusions"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Outputs]:
    """Cross-entropy on the digits' long tail, and what it gives for the balanced test set."""
    from drolt_pl.run.labelled import labelled_images

    run = tmp_path_factory.mktemp("run")
    train_composed(run, "trainer=cpu", "method=ce", "schedule.budget.alone=60")
    model = Model.load(run)
    return model, outputs_of_batches(model, labelled_images(model, ["dataset=digits_lt"]), Pace(), quiet)


def test_the_file_says_what_its_probabilities_assume(digits: tuple[Model, Outputs]) -> None:
    assert digits[0].description.prior == "train"


def test_a_reversed_tail_is_recovered(digits: tuple[Model, Outputs]) -> None:
    """The test set cut so that the rarest class in training is the most frequent."""
    model, whole = digits
    order = torch.tensor(model.class_counts).argsort().tolist()  # the rarest first
    kept = [
        (whole.targets == label).nonzero()[: round(50 * 20 ** (-place / 9)), 0] for place, label in enumerate(order)
    ]
    rows = torch.cat(kept)
    found = Outputs(whole.logits[rows], None, whole.targets[rows], [])
    plain, estimated = (evaluate(model, found, PriorWish(wish)) for wish in (None, "estimate"))
    truth = prior.frequencies(torch.bincount(found.targets, minlength=10))
    before = prior.total_variation(prior.frequencies(torch.tensor(model.class_counts)), truth)
    print(f"total variation: {before:.3f} -> {estimated.test_prior_error:.3f}", file=sys.stderr)
    assert estimated.test_prior_source == "estimate"
    assert estimated.test_prior_error is not None
    assert estimated.test_prior_error < before / 3
    gain = (estimated.accuracies.acc_micro or 0) - (plain.accuracies.acc_micro or 0)
    assert gain > 0.05


def test_a_balanced_set_is_not_harmed(digits: tuple[Model, Outputs]) -> None:
    model, whole = digits
    plain, estimated = (evaluate(model, whole, PriorWish(wish)) for wish in (None, "estimate"))
    assert (estimated.accuracies.acc or 0) >= (plain.accuracies.acc or 0) - 0.005
    assert json.loads(estimated.model_dump_json())["test_prior_source"] == "uniform"


def test_a_run_that_needs_no_centroids_leaves_those_of_its_test(tmp_path: Path) -> None:
    words = ("trainer=cpu", "report=false", "method=balanced_softmax", "schedule.budget.alone=2")
    run, out = folder_of_a_run(tmp_path / "run", *words), tmp_path / "out.json"
    done = CliRunner().invoke(app, ["evaluate", str(run), "dataset=digits_lt", "-o", str(out)])
    assert done.exit_code == 0, done.output
    measured = Results.load(run / "results.json")
    model = Model.load(run)
    assert model.centroid_counts is not None
    assert model.centroid_counts.tolist() == measured.class_counts
    assert Evaluation.model_validate_json(out.read_text()).accuracies.acc_ncm == measured.test.acc_ncm


@pytest.mark.slow
def test_an_untrained_models_estimate_is_mended_by_its_validation_images(tmp_path: Path) -> None:
    """After 15 epochs the rare digits are never predicted, and EM alone would make a balanced set ten points worse."""
    run = folder_of_a_run(tmp_path / "run", "trainer=cpu", "report=false", "method=ce", "schedule.budget.alone=15")

    def evaluated(model: Path, *words: str) -> tuple[Evaluation, str]:
        out = tmp_path / "out.json"
        done = CliRunner().invoke(app, ["evaluate", str(model), "dataset=digits_lt", "-o", str(out), *words])
        assert done.exit_code == 0, done.output
        return Evaluation.model_validate_json(out.read_text()), done.stderr

    plain, _ = evaluated(run)
    calibrated, told = evaluated(run, "--test-prior", "estimate")
    assert (calibrated.model_prior, told) == ("held out", "")
    assert (calibrated.accuracies.acc or 0) >= (plain.accuracies.acc or 0) - 0.005
    alone, told = evaluated(run / "checkpoints" / "best.ckpt", "--test-prior", "estimate")
    assert alone.model_prior == "train"
    assert "not calibrated ones (MODEL is no run's folder" in told
    assert (alone.accuracies.acc or 0) < (calibrated.accuracies.acc or 0)
