"""Docstrings of the package by dotted path, read from its source: nothing is imported, least of all torch."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def docstrings(target: str) -> Iterator[str]:
    """The docstring of a function; of a class, also that of its `__init__` and those of its bases in the package.

    Args:
        target: A dotted path; of another package it has none.
    """
    found = _find(target)
    if found is None:
        return
    module, node = found
    yield ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                yield ast.get_docstring(part) or ""
        for base in node.bases:
            name = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(name, ast.Name):
                yield from docstrings(f"{module}.{name.id}")


def _find(target: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The module of a class or function and its definition, wherever another module takes it from."""
    module, _, name = target.rpartition(".")
    for node in _body(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _find(f"{node.module}.{alias.name}")
    return None


@cache
def _body(module: str) -> list[ast.stmt]:
    first, *rest = module.split(".")
    path = PACKAGE.joinpath(*rest)
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if first == PACKAGE.name and file.is_file():
            return ast.parse(file.read_text(encoding="utf-8")).body
    return []
