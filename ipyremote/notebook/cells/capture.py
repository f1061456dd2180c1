"""Which names of the notebook a `%%remote` cell reads, and what goes to the worker for them.

A cell's inputs are decided before it runs, from its source alone. `names_read` errs on the side of too many: a name
that may be read, in whatever branch or nested function, counts. Not read, though, is a name that the cell binds in a
plain statement before it mentions it elsewhere: `x = 1; print(x)` needs no `x` from the notebook. Magics and commands,
which IPython has made calls of `get_ipython()`, read the names in their text.
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

from ipyremote.remote_cells.shell import CELL_MAGICS, LINE_MAGICS, PYTHON_MAGICS

__all__ = ["Captured", "capture", "names_bound", "names_read", "sources_of", "unsupported"]

#: Functions that are looked through for their sources, and characters of all sources together.
_FUNCTIONS: Final = 2_000
_SOURCES_LIMIT: Final = 1_000_000
#: What IPython puts into each notebook, and what means something else in a worker.
_NOT_SENT: Final = frozenset({"exit", "quit", "open", "get_ipython", "display"})
#: What a remote cell may ask of `get_ipython()`.
_SHELL: Final = frozenset({"run_line_magic", "run_cell_magic", "system", "getoutput", "user_ns"})
#: Python in a command: `{expression}` or `$name`.
_IN_COMMAND: Final = re.compile(r"\{([^{}]*)\}|\$([^\W\d]\w*)")
_NAME: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Captured:
    """The inputs of a cell."""

    #: By name, in alphabetical order.
    values: dict[str, Any]
    #: (name in the cell, name to import) of modules, which are imported again rather than sent.
    modules: tuple[tuple[str, str], ...]


def capture(
    source: str,
    namespace: Mapping[str, Any],
    filename: str = "<cell>",
    *,
    only: Iterable[str] | None = None,
    automatic: bool = True,
) -> Captured:
    """What the cell reads of the namespace. Raises SyntaxError.

    `only`: values of these names and no others, whether it reads them or not; modules come anyway. Not `automatic`:
    nothing but `only`.
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
    """The global names that the source may bind. Raises SyntaxError."""
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
    """(line, what it is) of the first magic, or other use of IPython, that a remote cell cannot have."""
    for node in sorted(
        (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)),
        key=lambda node: node.lineno,
    ):
        if not _is_get_ipython(node.value):
            continue
        if node.attr not in _SHELL:
            return node.lineno, f"get_ipython().{node.attr}"
    for name, call in _magics(ast.parse(source)):
        kind = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if kind == "run_line_magic" and name not in LINE_MAGICS:
            return call.lineno, f"%{name}"
        if kind == "run_cell_magic" and name not in CELL_MAGICS:
            return call.lineno, f"%%{name}"
    return None


def _is_get_ipython(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_ipython"


def _magics(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(name, call) of magics and commands; commands have no name."""
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
    """Names in the text of magics and commands."""
    for name, call in _magics(tree):
        for argument in call.args[1 if name else 0 :]:
            if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                continue
            if name in PYTHON_MAGICS:
                yield from _names_in_text(argument.value)
            else:
                for expression, variable in _IN_COMMAND.findall(argument.value):
                    yield from _NAME.findall(expression or variable)


def _names_in_text(text: str) -> Iterable[str]:
    try:
        return names_read(text)
    except SyntaxError:  # there are options before it
        return _NAME.findall(text)


def names_read(source: str, filename: str = "<cell>") -> frozenset[str]:
    """The global names that the source may read before it binds them. Raises SyntaxError."""
    tree = ast.parse(source, filename)
    table = symtable.symtable(source, filename, "exec")
    read = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    for child in table.get_children():
        read.update(_read_in(child))
    read.update(_changed(tree, inside=None))
    read.update(_in_magics(tree))
    return frozenset(read - _bound_before_read(tree))


def _read_in(table: symtable.SymbolTable) -> Iterator[str]:
    """Global names that a nested scope, and those in it, may read."""
    in_class = str(table.get_type()).endswith("class")
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or (in_class and symbol.is_local())):
            # A class body reads the global of a name that it has not bound yet.
            yield symbol.get_name()
    for child in table.get_children():
        yield from _read_in(child)


_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _changed(node: ast.AST, inside: frozenset[str] | None) -> Iterator[str]:
    """Global names that are changed in place (`x += 1`) or deleted: `symtable` counts them as bound, not as read.

    `inside`: the names that the surrounding function declares global; None outside functions.
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
    """Names that a statement at the top binds for certain, before anything mentions them."""
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
                # Its body runs after it is bound: calling itself is not reading an older function of that name.
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
    """The names of `x`, `x, y` or `[x, *y]`; none for a target that also reads, such as `x[0]`."""
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
    """(what runs before the class is bound, bodies of methods, which run later)."""
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
    """Every name in it, whatever is done with it."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name):
                yield name
            case ast.Global(names=names):
                yield from names
            case _:
                pass


def _is_from_ipython(value: Any) -> bool:
    """Whether IPython provides it: a worker has Python's own, or none."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] in ("IPython", "ipykernel")


def sources_of(values: Iterable[Any]) -> dict[str, str]:
    """Texts of the files that captured functions and classes come from and that are not on disk, by file name.

    Functions that these call are found through their globals.
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
    """Names that code and the code inside it refer to."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names
