"""A model as a file for other programs, compared with the model before it is left in its place."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.model import Model
from drolt_pl.model.stream import batched, decoded
from drolt_pl.predict.names import Names
from drolt_pl.records import write_atomically

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}  # by format
KEY = "drolt_pl"  # of the facts in ONNX's metadata_props
CHECKED = 100  # images at most
TOLERANCE = 1e-4  # of logits, or of the largest logit where that is above 1
Runner = Callable[[Tensor], Tensor]  # normalised images (B, C, H, W) -> logits (B, K)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        beside: The facts beside it, for a format that cannot hold them.
        images: How many images were compared.
        difference: The largest difference of a logit.
    """

    path: Path
    beside: Path | None
    images: int
    difference: float


def export(model: Model, form: str, out: Path, check: str | None = None) -> Exported:
    """Writes a model, on the CPU, whole or not at all.

    Args:
        model: It takes normalised images (batch, C, H, W) of any batch and gives logits (batch, K).
        form: Key of `SUFFIXES`.
        out: The file.
        check: A folder, a pattern or a list of images that both are compared on; None takes images of noise.

    Raises:
        SettingError: the file answers otherwise than the model, or a package is missing.
    """
    require_format(form, out)
    model = model.cpu().eval()
    images = _images(model, check)
    out.parent.mkdir(parents=True, exist_ok=True)
    of_facts, partial = beside(form, out), out.with_name(f".{out.stem}.{os.getpid()}.part{out.suffix}")
    try:
        runner = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch_export}[form](model, partial)
        difference = _difference(model, runner, images)
        if of_facts is not None:
            write_atomically(of_facts, json.dumps(facts(model), indent=1) + "\n")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(out, of_facts, len(images), difference)


def require_format(form: str, out: Path) -> None:
    """Refuses an unknown format, and a file whose name does not end as files of its format do."""
    require_choice("--format", form, SUFFIXES)
    if out.is_dir():
        raise SettingError("-o", "must name a file, not a folder", str(out))
    if out.suffix != SUFFIXES[form]:
        raise SettingError("-o", f"must end in {SUFFIXES[form]} with --format {form}", str(out))


def beside(form: str, out: Path) -> Path | None:
    """The file of facts beside a model's file; None for a format that holds them itself."""
    return out.with_name(f"{out.name}.json") if form == "torch-export" else None


def facts(model: Model) -> dict[str, object]:
    """What a program must know to use the model, as JSON holds it."""
    return {
        "input": "images: float32 (batch, channels, image_size, image_size), (pixel / 255 - mean) / std",
        "output": "logits: float32 (batch, classes); probabilities are their softmax",
        "preprocessing": model.preprocessing.as_plain(),
        "class_names": list(model.class_names),
        "class_counts": None if model.class_counts is None else list(model.class_counts),
        "prior": model.description.prior,
        "stage": model.stage,
    }


def _safetensors(model: Model, path: Path) -> Runner:
    model.save(path)
    return Model.load(path, trust=True)  # of what has just been written; the model itself was asked for trust


def _onnx(model: Model, path: Path) -> Runner:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError as error:
            raise SettingError("--format onnx", f"needs {package}", remedy="pip install 'drolt-pl[export]'") from error
    import onnxruntime

    with _exporting():
        program = torch.onnx.export(
            model,
            (_example(model),),
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        assert program is not None
        program.model.producer_name = KEY
        program.model.metadata_props[KEY] = json.dumps(facts(model))
        program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _torch_export(model: Model, path: Path) -> Runner:
    with _exporting():
        program = torch.export.export(
            model, (_example(model),), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
        torch.export.save(program, path)
        loaded: Runner = torch.export.load(path).module()
    return loaded


@torch.no_grad()
def _difference(model: Model, runner: Runner, images: Tensor) -> float:
    """The largest difference of a logit, over batches of several sizes."""
    largest = 0.0
    for batch in (images[:1], *torch.split(images, 32)):
        ours, theirs = model(batch), runner(batch)
        finite = ours.isfinite()  # a classifier may rule a class out with minus infinity
        if theirs.shape != ours.shape or not torch.equal(theirs.isfinite(), finite):
            raise SettingError(
                "--format", f"gives {tuple(theirs.shape)} logits that are not the model's; none was left"
            )
        difference = float((ours - theirs)[finite].abs().max())
        if difference > TOLERANCE * max(1.0, float(ours[finite].abs().max())):
            demand = f"gives other logits than the model, by up to {difference:.2g}: no file was left"
            raise SettingError("--format", demand)
        largest = max(largest, difference)
    return largest


def _images(model: Model, check: str | None) -> Tensor:
    """Normalised images to compare on, (n, C, H, W)."""
    view = model.preprocessing
    if check is None:
        shape = (4, view.channels, view.image_size, view.image_size)
        return view.normalised(torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte())
    try:
        names = Names([check])
    except SettingError as error:
        raise error.renamed(lambda _: "--check") from None
    found = [batch.pixels for batch in decoded(batched(islice(names, CHECKED), 32), view)]
    if not sum(map(len, found)):
        raise SettingError("--check", "must name images that can be read", check)
    return view.normalised(torch.cat(found))


def _example(model: Model) -> Tensor:
    """Two images: a batch of one would be taken for a constant."""
    size = model.preprocessing.image_size
    return torch.zeros(2, model.preprocessing.channels, size, size)


@contextmanager
def _exporting() -> Iterator[None]:
    """Keeps torch's remarks on its exporters from the user; says in a sentence that a network is beyond them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:  # torch's exporters have no exception in common
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
            raise SettingError("--format", f"cannot hold this network: torch's exporter says {reason!r}") from error
