"""One word for one concept: each class and each file of the package has a unique name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.support.sources import modules, relative, syntax

#: File names that are repeated on purpose, with the one concept that has the name at several layers.
LAYERS = {
    "actor_names": "names of actors: as a client asks for them, as the core keeps them, without processes",
    "actors": "actors: in the core's books, and as a worker runs them",
    "current_task": "the task that runs here: asked for through the door, and known to a worker",
    "detached": "sessions that outlive their driver: the client's side and the core's",
    "environments": "environments: asked for, decided about, and set up as processes",
    "history": "tasks that have ended: what the core remembers and a client asks for",
    "objects": "objects: without processes, and of a client's session",
    "placement": "where tasks go: what can be asked for, and the choice",
    "placement_groups": "placement groups: as a client asks for them, as the core reserves them, without processes",
    "process": "the main module of a program: the scheduler's and a worker's",
    "reporter": "what is reported of a task: the protocol, and a worker's way home",
    "sessions": "lasting namespaces of cells: named in the notebook, kept in a worker",
    "spilling": "moving objects to disk: the core chooses, a client copies",
    "streams": "generators of refs: the user's, and what each side knows of them",
    "timeline": "runs of tasks over time: counted in the core, drawn in a notebook",
    "unretrieved": "failures that nobody asked for: found by the core, told by a client, shown in a notebook",
}
#: Names of files that Python or a tool prescribes.
GIVEN = {"__init__", "__main__"}


def repeated(places: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that occur at several places, with their places."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in places:
        found[name].append(relative(path))
    return {name: paths for name, paths in sorted(found.items()) if len(paths) > 1}


def test_each_class_has_a_unique_name() -> None:
    classes = [
        (node.name, path)
        for path in modules()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) > 300
    assert {} == repeated(classes)


def test_a_repeated_file_name_is_one_concept_at_several_layers() -> None:
    found = repeated((path.stem, path) for path in modules() if path.stem not in GIVEN)
    assert {} == {name: paths for name, paths in found.items() if name not in LAYERS}
    assert [] == sorted(LAYERS.keys() - set(found)), "no longer repeated: take these from LAYERS"
