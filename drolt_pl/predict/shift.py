"""What re-weights predictions to other class frequencies while they are made."""

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from drolt_pl import prior
from drolt_pl.errors import SettingError
from drolt_pl.model import Model
from drolt_pl.predict.files import Pace
from drolt_pl.predict.labelled import Outputs
from drolt_pl.predict.names import Names
from drolt_pl.predict.priors import ESTIMATE, estimated_prior, model_prior, named_prior, require_used
from drolt_pl.predict.ranks import Ranks

SAMPLE = 20_000  # images on which frequencies are estimated, at most


class Shift(NamedTuple):
    """What is added to logits, (K,), the name of the class frequencies that they then assume, and what scales them."""

    values: Tensor
    source: str
    scale: float = 1.0


def shift_for(
    model: Model,
    names: Names,
    pace: Pace,
    *,
    test: str | None,
    assumed: str | None,
    held_out: Callable[[], Outputs | None] = lambda: None,
) -> Shift | None:
    """What re-weights predictions: log(q / p) of the wished and the model's own class frequencies.

    Args:
        model: The model.
        names: The images; `estimate` looks at a random 20,000 of them first.
        pace: How they are read.
        test: `uniform`, `train`, `estimate` or a file; None changes nothing.
        assumed: See `model_prior`.
        held_out: Gives what the model says of labelled images beside these, which calibrate it for `estimate`.

    Raises:
        SettingError: `estimate` of images that are named on standard input, or `assumed` alone.
    """
    require_used(test, assumed)
    if test is None:
        return None
    _, own = model_prior(model, assumed)
    scale, bias = 1.0, torch.zeros(len(own), dtype=torch.float64)
    if test == ESTIMATE:
        logits = _logits(model, names, pace)
        known = held_out() if assumed is None else None
        if known is not None:
            scale, bias, own = prior.calibrated(known.logits, known.targets)
        source, wished = estimated_prior(model, (scale * logits + bias).softmax(1), own, known and len(known.targets))
    else:
        source, wished = test, named_prior(model, test)
    least = torch.finfo(torch.float32).tiny
    quotients = prior.frequencies(wished).clamp(min=least) / prior.frequencies(own).clamp(min=least)
    return Shift((bias + quotients.log()).float(), source, scale)


def _logits(model: Model, names: Names, pace: Pace) -> Tensor:
    """What the model gives for a sample of the images, (N, K), float64."""
    if not names.repeatable:
        demand = "cannot be estimate for names from standard input, which can be read once"
        raise SettingError("--test-prior", demand, remedy="give @FILE")
    model.to(pace.device)
    logits = [model.outputs(batch.pixels)[0] for batch in pace.batches(_sample(names), model, Ranks())]
    found = torch.cat(logits)
    if not len(found):
        raise SettingError("images", "must name images that can be read: there is none")
    return found.cpu().double()


def _sample(names: Iterable[str]) -> list[str]:
    """At most `SAMPLE` names, each as likely as any other (reservoir sampling), the same at every call."""
    generator, kept = random.Random(0), list[str]()
    for place, name in enumerate(names):
        if place < SAMPLE:
            kept.append(name)
        elif (other := generator.randrange(place + 1)) < SAMPLE:
            kept[other] = name
    return kept
