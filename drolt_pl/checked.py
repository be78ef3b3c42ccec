"""Holds the arguments of constructors to their annotations: types, ranges, choices; one sentence for each fault.

`checked` does it where a class is called, `run.validate` for a whole configuration before anything is built.
"""

import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf

from drolt_pl.errors import SettingError, refuse
from drolt_pl.ranges import Holds

if TYPE_CHECKING:
    from pydantic import TypeAdapter

C = TypeVar("C", bound=type)
WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Any: "anything",
    types.NoneType: "null",
    os.PathLike: "a path",
}
UNIONS = (Union, types.UnionType)
NOTHING = None, None
LISTS = (list, tuple, Sequence, Collection)


@dataclass(frozen=True)
class Parameter:
    """An argument: its annotation, and whether it must be given."""

    hint: object
    required: bool


@dataclass(frozen=True)
class Signature:
    """What something is called with.

    Attributes:
        parameters: By name; those of `**settings: Unpack[...]` among them.
        others: The annotation of further keyword arguments that it takes, None where it takes none.
    """

    parameters: Mapping[str, Parameter]
    others: object = None


def checked(cls: C) -> C:
    """Holds what a class is constructed with to the annotations of its constructor, all of them at once.

    Arguments that are no plain values, such as modules and tensors, are passed on as they are.

    Raises:
        SettingError: when the class is called with a value that does not fit; of several, all are named.
    """
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def constructor(self: object, *args: object, **kwargs: object) -> None:
        try:
            arguments = inspect.signature(init).bind(self, *args, **kwargs).arguments
        except TypeError:  # `init` says it better
            arguments = {}
        parameters = signature_of(init).parameters
        given = {name: value for name, value in arguments.items() if name in parameters}
        given |= {name: value for name, value in kwargs.items() if name in parameters}
        refuse(problem for name, value in given.items() for problem in problems(name, value, parameters[name].hint))
        init(self, *args, **kwargs)

    cls.__init__ = constructor  # type: ignore[misc]
    return cls


def problems(name: str, value: object, hint: object) -> list[SettingError]:
    """What is wrong with a value for an annotation; nothing where the annotation is of no plain values."""
    if not is_plain(hint) or _fits(value, hint):
        return []
    if isinstance(value, Mapping):
        keys, entries = _of_mapping(hint)
        if (keys, entries) != NOTHING:
            demand = f"is unknown: the names here are {describe(keys)}"
            found = [SettingError(f"{name}.{key}", demand) for key in value if not _fits(key, keys)]
            found += [problem for key, own in value.items() for problem in problems(f"{name}.{key}", own, entries)]
            if found:
                return found
    demand = f"must be {describe(hint, _builtin(value))}"
    return [SettingError(name, demand, list(value) if isinstance(value, tuple) else value)]


def _of_mapping(hint: object) -> tuple[object, object]:
    """The annotations of keys and values of a mapping, also of one in a union; nothing fits where there is none."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (dict, Mapping):
        return parts[0], parts[1]
    inner = parts[:1] if origin is Annotated else parts if origin in UNIONS else ()
    return next((found for part in inner if (found := _of_mapping(part)) != NOTHING), NOTHING)


@functools.cache
def signature_of(target: Callable[..., object]) -> Signature:
    """The arguments of a class or a function, without `self`."""
    init = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    try:
        hints, found = get_type_hints(init, include_extras=True), inspect.signature(target)
    except (NameError, TypeError, ValueError):  # annotations that cannot be read here, or none: then all is taken
        return Signature({}, Any)
    parameters: dict[str, Parameter] = {}
    others: object = None
    for name, parameter in found.parameters.items():
        hint = hints.get(name, Any)
        if name == "self" or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters[name] = Parameter(hint, parameter.default is parameter.empty)
        elif "Unpack" in str(get_origin(hint)):
            fields = get_type_hints(get_args(hint)[0], include_extras=True)
            parameters |= {field: Parameter(own, required=False) for field, own in fields.items()}
        else:
            others = hint
    return Signature(parameters, others)


@functools.cache
def is_plain(hint: object) -> bool:
    """Whether an annotation is of plain values: numbers, texts, null, paths, lists and mappings of them."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in WORDS or origin in (Literal, os.PathLike):
        return True
    if origin is Annotated:
        return is_plain(parts[0])
    if origin in UNIONS or origin in LISTS or origin in (dict, Mapping):
        return all(is_plain(part) for part in parts if part is not ...)
    return False


def describe(hint: object, value: object = None) -> str:
    """What an annotation asks for: `a whole number >= 1`, `null or one of ('un', 'l2n')`.

    Args:
        hint: The annotation.
        value: What was given. A number need not be told that it is to be one, nor of a bound far above it.
    """
    origin: object = get_origin(hint)
    parts = get_args(hint)
    if origin is Annotated:
        return _bounded(parts[0], parts[1:], value)
    if origin in UNIONS:
        choices = [part for part in parts if get_origin(part) is not os.PathLike]
        choices.sort(key=lambda part: (part is not types.NoneType, "Literal" not in str(get_origin(part))))
        return " or ".join(dict.fromkeys(describe(part, value) for part in choices))
    if origin is Literal:
        return repr(parts[0]) if len(parts) == 1 else f"one of {parts}"
    if origin in LISTS:
        return f"a list of {_several(parts[0])}" if parts else "a list"
    if origin in (dict, Mapping):
        keys = f" of {get_args(parts[0])}" if get_origin(parts[0]) is Literal else ""
        return f"a mapping{keys}, each value {describe(parts[1])}"
    return WORDS.get(origin or hint, "a value")


def _several(hint: object) -> str:
    origin: object = get_origin(hint)
    if origin is Literal:
        return f"some of {get_args(hint)}"
    words = describe(hint)
    for one, many in (("a number", "numbers"), ("a whole number", "whole numbers"), ("text", "names")):
        if words.startswith(one):
            return many if many == "names" else words.replace(one, many, 1)
    return words


def _bounded(base: object, bounds: Sequence[object], value: object) -> str:
    """The words of a type with bounds: `in [0, 1)`, `two numbers > 0, the smaller first`."""
    length = next((bound for bound in bounds if isinstance(bound, Len)), None)
    demands = [bound.demand for bound in bounds if isinstance(bound, Holds)]
    demands += [f"a multiple of {bound.multiple_of}" for bound in bounds if isinstance(bound, MultipleOf)]
    if get_origin(base) in LISTS:
        entries = _several(get_args(base)[0])
        if length is not None and length.min_length == length.max_length == 2:
            return ", ".join([f"two {entries}", *demands])
        return ", ".join([f"a list of {entries}", *(["not empty"] if length is not None else []), *demands])
    if get_origin(base) in (dict, Mapping):
        return ", ".join([describe(base), "not empty"])
    interval = _interval(bounds, value)
    known = bool(interval) and base is float and _is_number(value)  # what it is to be need not be said
    empty = ["that is not empty"] if length is not None else []
    if interval:
        return " and ".join([" ".join([*([] if known else [describe(base)]), *interval]), *demands])
    return f"{describe(base)} {' and '.join([*empty, *demands])}".strip()


def _interval(bounds: Sequence[object], value: object) -> list[str]:
    low = next((bound for bound in bounds if isinstance(bound, Ge | Gt)), None)
    high = next((bound for bound in bounds if isinstance(bound, Le | Lt)), None)
    if low is None or high is None:
        return []
    least, most = _limit(low), _limit(high)
    open_below, open_above = isinstance(low, Gt), isinstance(high, Lt)
    if most <= 1:
        return [f"in {'(' if open_below else '['}{least:g}, {most:g}{')' if open_above else ']'}"]
    below = f"{'>' if open_below else '>='} {least:g}"
    far = not _is_number(value) or float(str(value)) < most
    return [below] if far else [f"{below} and {'<' if open_above else '<='} {most:.0f}"]


def _limit(bound: Ge | Gt | Le | Lt) -> float:
    return float(str(astuple(bound)[0]))


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _fits(value: object, hint: object) -> bool:
    from pydantic import ValidationError

    try:
        _adapter(hint).validate_python(_builtin(value))
    except ValidationError:
        return False
    return True


@functools.cache
def _adapter(hint: object) -> "TypeAdapter[object]":
    from pydantic import ConfigDict, TypeAdapter

    # Strict: true is no number, "1" is none, and 1.0 is no whole number.
    return TypeAdapter(typing.cast("type[object]", hint), config=ConfigDict(strict=True, allow_inf_nan=False))


def _builtin(value: object) -> object:
    """NumPy's scalars as Python's."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value
