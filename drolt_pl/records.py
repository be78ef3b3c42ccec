"""Typed records in JSON: reading is strict and explains a wrong file in one sentence, writing is one step."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from drolt_pl.disk import write_whole
from drolt_pl.errors import SettingError

T = TypeVar("T")
SCALARS = (str, int, float, bool, type(None))


class Record(BaseModel):
    """Base of the records: they are frozen, convert no types, and keep keys that this version does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    def plain(self) -> dict[str, object]:
        """The given fields as JSON values: defaults are left out, and numbers that are not finite become null."""
        return {name: finite(value) for name, value in self.model_dump(by_alias=True, exclude_unset=True).items()}


def read_record(path: Path, parse: Callable[[str], T]) -> T:
    """Reads a file of JSON.

    Args:
        path: The file.
        parse: Makes the record from the text: `model_validate_json` of a `Record`, or `validate_json` of a type
            adapter.

    Raises:
        SettingError: the file cannot be read, is not JSON, lacks a field, or has one of a wrong type.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingError(str(path), f"is not JSON: {error}") from error
    except ValidationError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: ValidationError) -> SettingError:
    """The sentence about a wrong file: it lists all missing fields, or names the first wrong one."""
    details = error.errors(include_url=False)
    missing = [".".join(map(str, detail["loc"])) for detail in details if detail["type"] == "missing"]
    first = details[0]
    if first["type"] == "json_invalid":
        return SettingError(str(path), f"is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "missing":
        return SettingError(str(path), f"lacks {', '.join(missing)}")
    field = ".".join(map(str, first["loc"]))
    given = [first["input"]] if isinstance(first["input"], SCALARS) else []
    demand = first["msg"].replace("Input should", "must")
    return SettingError(f"{field} in {path}" if field else str(path), demand, *given)


def finite(value: object) -> object:
    """A plain value with null in place of every number that is not finite, since JSON has no form for these."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file of text in one step, see `disk.replacing`: neither a reader nor a crash ever sees half of it."""
    write_whole(path, text.encode())
