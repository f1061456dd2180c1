"""Which names of the notebook a `%%remote` cell reads, and which values are sent to the worker for these names.

The inputs of a cell are decided before the cell runs, from its source alone. `names_read` errs on the side of too many
names: a name that may be read, in any branch or nested function, counts as read. A name that the cell binds in a plain
statement before any other mention does not: `x = 1; print(x)` needs no `x` from the notebook. IPython has turned magics
and commands into calls of `get_ipython()`; the names in the text of such a call count as read.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import os
import re
import symtable
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from ipyremote.remote_cells.shell import (
    OTHER_LANGUAGES,
    PYTHON_MAGICS,
    REFUSED_ATTRIBUTES,
    REFUSED_MAGICS,
)

__all__ = ["Captured", "capture", "names_bound", "names_read", "sources_of", "unsupported"]

#: Limits of `sources_of`: number of functions looked at, and characters of all sources together.
_FUNCTIONS: Final = 2_000
_SOURCES_LIMIT: Final = 1_000_000
#: Names that IPython puts into each notebook, and that have another meaning in a worker.
_NOT_SENT: Final = frozenset({"exit", "quit", "open", "get_ipython", "display"})
#: Python inside of a command: `{expression}` or `$name`.
_IN_COMMAND: Final = re.compile(r"\{([^{}]*)\}|\$([^\W\d]\w*)")
_NAME: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Captured:
    """The inputs of a cell."""

    #: Values to send, by name, in alphabetical order.
    values: dict[str, Any]
    #: Name in the cell and name to import of each module; the worker imports modules itself.
    modules: tuple[tuple[str, str], ...]


def capture(
    source: str,
    namespace: Mapping[str, Any],
    filename: str = "<cell>",
    *,
    only: Iterable[str] | None = None,
    automatic: bool = True,
) -> Captured:
    """Return the values and modules of the namespace that a cell with this source needs. Raises SyntaxError.

    With `only`, the values are those of these names, whether the cell reads them or not; modules that the cell reads
    are still included. Without `automatic`, only the names in `only` are looked at.
    """
    read = names_read(source, filename) if automatic else frozenset()
    chosen = None if only is None else frozenset(only)
    values: dict[str, Any] = {}
    modules: list[tuple[str, str]] = []
    for name in sorted(read | (chosen or frozenset())):
        if name not in namespace or (name in _NOT_SENT and _is_from_ipython(namespace[name])):
            continue
        value = namespace[name]
        if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
            modules.append((name, value.__name__))
        elif chosen is not None and name not in chosen:
            continue
        elif name in (chosen or ()) or getattr(builtins, name, None) is not value:
            values[name] = value
    return Captured(values, tuple(modules))


def names_bound(source: str, filename: str = "<cell>") -> frozenset[str]:
    """Return the global names that the source may bind. Raises SyntaxError."""
    table = symtable.symtable(source, filename, "exec")
    bound = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    pending = list(table.get_children())
    while pending:
        inner = pending.pop()
        pending.extend(inner.get_children())
        bound.update(
            symbol.get_name()
            for symbol in inner.get_symbols()
            if symbol.is_declared_global() and symbol.is_assigned()
        )
    return frozenset(bound)


def unsupported(source: str) -> tuple[int, str] | None:
    """Return the line and the name of the first magic, or other use of IPython, that does not work in a remote cell."""
    tree = ast.parse(source)
    found = [
        (node.lineno, f"get_ipython().{node.attr}")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _is_get_ipython(node.value) and node.attr in REFUSED_ATTRIBUTES
    ]
    for name, call in _magics(tree):
        if name in REFUSED_MAGICS:
            found.append((call.lineno, f"%%{name}" if _has_lines(call) else f"%{name}"))
    return min(found, default=None)


def _is_get_ipython(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_ipython"


def _magics(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield the name and the call of each magic and command; the name of a command is empty."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=kind)) if _is_get_ipython(owner):
                if kind in ("system", "getoutput"):
                    yield "", node
                elif kind in ("run_line_magic", "run_cell_magic") and node.args:
                    first = node.args[0]
                    yield str(first.value) if isinstance(first, ast.Constant) else "", node
            case _:
                pass


def _in_magics(tree: ast.AST) -> Iterator[str]:
    """Yield the names in the text of magics and commands."""
    for name, call in _magics(tree):
        for argument in call.args[1 if name else 0 :]:
            if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                continue
            if name in PYTHON_MAGICS or (_has_lines(call) and name not in OTHER_LANGUAGES):
                yield from _names_in_text(argument.value)
            else:
                for expression, variable in _IN_COMMAND.findall(argument.value):
                    yield from _NAME.findall(expression or variable)


def _has_lines(call: ast.Call) -> bool:
    """Return whether a magic has the lines below it, which may be Python if nothing says that they are not."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "run_cell_magic"


def _names_in_text(text: str) -> Iterable[str]:
    try:
        return names_read(text)
    except SyntaxError:  # options of the magic stand before the code
        return _NAME.findall(text)


def names_read(source: str, filename: str = "<cell>") -> frozenset[str]:
    """Return the global names that the source may read before it binds them. Raises SyntaxError."""
    tree = ast.parse(source, filename)
    table = symtable.symtable(source, filename, "exec")
    read = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    for child in table.get_children():
        read.update(_read_in(child))
    read.update(_changed(tree, inside=None))
    read.update(_in_magics(tree))
    return frozenset(read - _bound_before_read(tree))


def _read_in(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the global names that a nested scope, and the scopes inside of it, may read."""
    in_class = str(table.get_type()).endswith("class")
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or (in_class and symbol.is_local())):
            # Until a class body binds a name, the body reads the global of that name.
            yield symbol.get_name()
    for child in table.get_children():
        yield from _read_in(child)


_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _changed(node: ast.AST, inside: frozenset[str] | None) -> Iterator[str]:
    """Yield the global names that are changed in place (`x += 1`) or deleted; `symtable` does not count them as read.

    `inside` has the names that the surrounding function declares global; it is None outside of functions.
    """
    for child in ast.iter_child_nodes(node):
        targets: list[ast.expr] = []
        if isinstance(child, ast.AugAssign):
            targets = [child.target]
        elif isinstance(child, ast.Delete):
            targets = [target for target in ast.walk(child) if isinstance(target, ast.Name)]
        for target in targets:
            if isinstance(target, ast.Name) and (inside is None or target.id in inside):
                yield target.id
        yield from _changed(child, _declared_global(child) if isinstance(child, _Scope) else inside)


def _declared_global(function: _Scope) -> frozenset[str]:
    return frozenset(
        name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names
    )


def _bound_before_read(tree: ast.Module) -> set[str]:
    """Return the names that a top-level statement binds for certain, before any code mentions them."""
    bound: set[str] = set()
    mentioned: set[str] = set()
    for statement in tree.body:
        binds: list[str] = []
        used: Iterable[ast.AST] = (statement,)
        match statement:
            case ast.Assign(targets=targets, value=value):
                binds = [name for target in targets for name in _plain_names(target)]
                used = (value, *(target for target in targets if not _plain_names(target)))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value, annotation=annotation):
                binds, used = [name], (value, annotation)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                binds = [(alias.asname or alias.name).partition(".")[0] for alias in aliases]
                used = ()
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                # The body runs after the function is bound, so a recursive call does not read an older function.
                inner = {found for part in statement.body for found in _mentions(part)} - {name}
                mentioned |= inner
                binds = [name]
                used = [part for part in ast.iter_child_nodes(statement) if part not in statement.body]
            case ast.ClassDef(name=name):
                binds = [name]
                outer, methods = _class_parts(statement)
                mentioned |= {found for part in methods for found in _mentions(part)} - {name}
                used = outer
            case _:
                pass
        for part in used:
            mentioned.update(_mentions(part))
        bound.update(name for name in binds if name not in mentioned)
        mentioned.update(binds)
    return bound


def _plain_names(target: ast.expr) -> list[str]:
    """Return the names in a target such as `x`, `x, y` or `[x, *y]`; none for a target that reads, such as `x[0]`."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Starred(value=value):
            return _plain_names(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            names = [_plain_names(part) for part in parts]
            return [name for part in names for name in part] if all(names) else []
        case _:
            return []


def _class_parts(node: ast.ClassDef) -> tuple[list[ast.AST], list[ast.AST]]:
    """Return the parts of a class that run before the class is bound, and the bodies of methods, which run later."""
    outer: list[ast.AST] = []
    methods: list[ast.AST] = []
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            methods.extend(part.body)
            outer.extend(inner for inner in ast.iter_child_nodes(part) if inner not in part.body)
        else:
            outer.append(part)
    return outer, methods


def _mentions(node: ast.AST) -> Iterator[str]:
    """Yield every name inside of the node, read or bound."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name):
                yield name
            case ast.Global(names=names):
                yield from names
            case _:
                pass


def _is_from_ipython(value: Any) -> bool:
    """Return whether IPython provides this value; a worker has Python's own value, or none."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] in ("IPython", "ipykernel")


def sources_of(values: Iterable[Any]) -> dict[str, str]:
    """Return the source files of captured functions and classes that are not on disk: text by file name.

    The functions that a captured function calls are included; they are found through its globals.
    """
    texts: dict[str, str] = {}
    seen: set[int] = set()
    pending = list(values)
    total = 0
    while pending and len(seen) < _FUNCTIONS:
        value = pending.pop()
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        if wrapped is not None:
            pending.append(wrapped)
        if id(value) in seen or not isinstance(value, FunctionType | type) or value.__module__ != "__main__":
            continue
        seen.add(id(value))
        if isinstance(value, type):
            pending.extend(vars(value).values())
            pending.extend(value.__bases__)
            continue
        pending.extend(
            value.__globals__[name] for name in _names_in(value.__code__) & value.__globals__.keys()
        )
        filename = value.__code__.co_filename
        if filename in texts or os.path.exists(filename):
            continue
        text = "".join(linecache.getlines(filename))
        total += len(text)
        if text and total <= _SOURCES_LIMIT:
            texts[filename] = text
    return texts


def _names_in(code: CodeType) -> set[str]:
    """Return the names that a code object, and the code objects inside of it, refer to."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names
