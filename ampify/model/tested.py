"""Files of tests, as pytest finds them, and what else lies among them."""

from __future__ import annotations

from pathlib import Path

import libcst as cst

from ampify.source.importers import among_tests


def is_test(path: Path, module: cst.Module) -> bool:
    """Whether pytest takes a file for tests by its name, and there are some in it, or it lies in a folder of tests.

    The names are those of its defaults, ``python_files``, ``python_functions`` and ``python_classes``
    (https://docs.pytest.org/en/stable/reference/reference.html#ini-options-ref); a class of `unittest` has any name.
    """
    named = path.name.startswith("test_") or path.stem.endswith("_test")
    return (named and path.suffix == ".py" and any(map(_collected, module.body))) or among_tests(path)


def _collected(node: cst.CSTNode) -> bool:
    match node:
        case cst.FunctionDef(name=cst.Name(value=name)):
            return name.startswith("test")
        case cst.ClassDef(body=cst.IndentedBlock(body=body)):
            return any(map(_collected, body))
    return False
