"""Capture: a table of the names that cells read, and the values that are sent for names."""

from __future__ import annotations

import math
import sys
import types
from textwrap import dedent

import pytest

from ipyremote.notebook.cells.capture import capture, names_read, sources_of

CASES = [
    ("f-string", "print(f'{a:>{b}}')", "print a b"),
    ("list comprehension", "[x * a for x in b if c]", "a b c"),
    ("nested comprehension", "{x: [y + a for y in x] for x in b}", "a b"),
    ("generator in a call", "sum(x for x in a)", "sum a"),
    ("augmented assignment", "total += 1", "total"),
    ("augmented assignment of an item", "d[k] += 1", "d k"),
    ("augmented assignment in a branch", "if c:\n    total += 1", "c total"),
    ("del", "del a, b[0]", "a b"),
    ("match", "match a:\n    case {'k': x} if x > b:\n        c(x)", "a b c x"),
    ("match on a class", "match a:\n    case Point(x=0):\n        pass", "a Point"),
    ("lambda", "f = lambda x, y=a: x + y + b", "a b"),
    ("class body", "class A(B, metaclass=M):\n    x = y\n    def m(self):\n        return z", "B M y z"),
    ("class body that shadows", "class A:\n    x = x", "x"),
    ("nested functions", "def f():\n    def g():\n        return a\n    return g", "a"),
    ("closure is not global", "def f(a):\n    def g():\n        return a\n    return g", ""),
    ("walrus", "if (n := a) > 1:\n    print(n)", "a print n"),
    ("walrus in a comprehension", "[y := f(x) for x in a]", "f a"),
    ("decorator", "@cache(a)\ndef f(): pass", "cache a"),
    ("default and annotation", "def f(x: T = a) -> R: pass", "T a R"),
    ("global that is read", "def f():\n    global a\n    a = a + 1", "a"),
    ("global that is augmented", "def f():\n    global a\n    a += 1", "a"),
    ("local that is augmented", "def f():\n    a = 0\n    a += 1", ""),
    ("global that is deleted", "def f():\n    global a\n    del a", "a"),
    ("star arguments", "f(*a, **b)", "f a b"),
    ("slices", "a[b:c, ::d]", "a b c d"),
    ("attribute", "a.b.c = d", "a d"),
    ("with", "with a as b:\n    b.read()", "a b"),
    ("for", "for x in a:\n    print(x)", "a print x"),
    ("except", "try:\n    a()\nexcept E as e:\n    raise F from e", "a E F e"),
    ("top-level await", "x = await a", "a"),
    ("async for at the top", "async for x in a:\n    b(x)", "a b x"),
    ("async comprehension at the top", "[x async for x in a]", "a"),
    ("async function", "async def f():\n    return await a", "a"),
    ("bound before it is read", "x = 1\nprint(x)", "print"),
    ("tuple bound before", "x, (y, *z) = a\nprint(x, y, z)", "a print"),
    ("read in its own binding", "df = df.assign(a=1)", "df"),
    ("read, then bound", "print(x)\nx = 1", "print x"),
    ("bound in one branch", "if a:\n    x = 1\nprint(x)", "a print x"),
    ("read by an earlier function", "def f():\n    return x\nx = 1\nf()", "x"),
    ("import", "import a.b\nfrom c import d as e\na.b(e)", ""),
    ("recursive function", "def fib(n):\n    return fib(n - 1)\nfib(3)", ""),
    ("decorated by its older self", "@f\ndef f(): pass", "f"),
    ("class that refers to itself in a method", "class A:\n    def m(self):\n        return A()", ""),
    ("class that refers to its older self", "class A(A): pass", "A"),
    ("item is not a binding", "x[0] = 1\nx", "x"),
    ("annotated binding", "x: int = 1\nx", "int"),
    ("annotation alone", "x: int\nx", "int x"),
    ("mangled", "class A:\n    def m(self):\n        return __a", "_A__a"),
]


@pytest.mark.parametrize(("source", "names"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_names_that_a_cell_reads(source: str, names: str) -> None:
    assert sorted(names_read(source)) == sorted(names.split())


def test_only_names_of_the_notebook_are_captured() -> None:
    found = capture("a + b + len(c)", {"a": 1, "c": [2], "d": 3})
    assert found.values == {"a": 1, "c": [2]}
    assert found.modules == ()


def test_modules_are_sent_by_name() -> None:
    found = capture("m.pi + sys.maxsize", {"m": math, "sys": sys})
    assert found.values == {}
    assert found.modules == (("m", "math"), ("sys", "sys"))


def test_a_module_made_by_hand_is_sent_by_value() -> None:
    made = types.ModuleType("made")
    assert capture("made.x", {"made": made}).values == {"made": made}


def test_a_builtin_is_not_captured_unless_the_notebook_redefined_it() -> None:
    assert capture("sum(a)", {"sum": sum, "a": 1}).values == {"a": 1}
    assert capture("sum(a)", {"sum": 3, "a": 1}).values == {"sum": 3, "a": 1}


def test_a_syntax_error_is_raised_with_its_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        names_read("x = 1\ny = = 2", "cell")
    assert (caught.value.filename, caught.value.lineno) == ("cell", 2)


def test_sources_of_typed_functions_are_found_through_calls_classes_and_decorators() -> None:
    import functools
    import linecache

    space: dict[str, object] = {"__name__": "__main__", "functools": functools}
    for number, text in enumerate(
        [
            "def inner(): return 1\n",
            "def middle(): return [inner() for _ in '1']\n",
            "class A:\n    def m(self): return middle()\n",
            "@functools.lru_cache\ndef cached(): return A().m()\n",
        ]
    ):
        name = f"<typed {number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(dedent(text), name, "exec"), space)
    assert sorted(sources_of([space["cached"], math.sin, 3])) == [f"<typed {number}>" for number in range(4)]
