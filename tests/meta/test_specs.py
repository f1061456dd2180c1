"""Where the package builds wire structs by position, each argument is a variable with the name of its field.

Keywords are the rule. msgspec takes much longer for more than eight of them, so the path of a submission has none.
"""

from __future__ import annotations

import ast

from ipyremote import messages
from tests.support.sources import modules, syntax


def constructions(name: str) -> list[ast.Call]:
    """Return each call in the package that makes a struct with this name."""
    return [
        node
        for path in modules()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (name, f"m.{name}", f"messages.{name}")
    ]


def test_a_task_spec_is_built_of_all_fields_in_their_order() -> None:
    found = constructions("TaskSpec")
    assert found
    for call in found:
        names = [argument.id if isinstance(argument, ast.Name) else "" for argument in call.args]
        assert names + [keyword.arg for keyword in call.keywords] == list(messages.TaskSpec.__struct_fields__)
