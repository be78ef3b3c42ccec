"""Typed records that are kept as JSON: read strictly, with one sentence for a wrong file, and written in one step."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from drolt_pl.errors import SettingError
from drolt_pl.regular import read_regular

T = TypeVar("T")
MAX_BYTES = 256 * 1024**2  # of a file that is read: the split of a million images has a tenth
SHOWN = 200  # characters of a wrong value
SCALARS = (str, int, float, bool, type(None))


class Record(BaseModel):
    """Base of the records: frozen, without conversions, and keys that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    def plain(self) -> dict[str, object]:
        """What was given, as JSON holds it: defaults are left out, and a number that is not finite is null."""
        return {name: finite(value) for name, value in self.model_dump(by_alias=True, exclude_unset=True).items()}


def read_record(path: Path, parse: Callable[[str], T]) -> T:
    """Reads a file of JSON.

    Args:
        path: The file.
        parse: Makes the record of the text: `model_validate_json` of a `Record`, or `validate_json` of a type adapter.

    Raises:
        SettingError: the file cannot be read, is not JSON, lacks a field, or has one of a wrong type.
    """
    text = read_text(path, "JSON")
    try:
        return parse(text)
    except ValidationError as error:
        raise _refusal(path, error) from error


def read_text(path: Path, kind: str, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file, with or without a byte order mark.

    Args:
        path: The file.
        kind: What it should be, for the sentence.
        max_bytes: That it may have.

    Raises:
        SettingError: it cannot be read, is no regular file, is too large, or is not UTF-8.
    """
    try:
        return read_regular(path, max_bytes).decode("utf-8-sig")
    except OSError as error:
        raise SettingError(str(path), f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingError(str(path), f"is not {kind}: {error}") from error


def _refusal(path: Path, error: ValidationError) -> SettingError:
    """The sentence for what is wrong with a file: missing fields together, else the first wrong one."""
    details = error.errors(include_url=False)
    missing = [".".join(map(str, detail["loc"])) for detail in details if detail["type"] == "missing"]
    first = details[0]
    if first["type"] == "json_invalid":
        return SettingError(str(path), f"is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "missing":
        return SettingError(str(path), f"lacks {', '.join(missing)}")
    field = ".".join(map(str, first["loc"]))
    value = first["input"]
    given = [value[:SHOWN] if isinstance(value, str) else value] if isinstance(value, SCALARS) else []
    demand = first["msg"].replace("Input should", "must")
    return SettingError(f"{field} in {path}" if field else str(path), demand, *given)


def finite(value: object) -> object:
    """A plain value with null in place of every number that is not finite, which JSON has no form for."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file in one step: a reader never sees half of it. The folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
