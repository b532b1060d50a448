"""Files of tests, as pytest finds them."""

from __future__ import annotations

from pathlib import PurePath

import libcst as cst


def is_test(path: PurePath, module: cst.Module) -> bool:
    """Whether pytest takes a file for tests by its name, and there are some in it.

    The names are those of its defaults, ``python_files``, ``python_functions`` and ``python_classes``
    (https://docs.pytest.org/en/stable/reference/reference.html#ini-options-ref); a class of `unittest` has any name.
    """
    named = path.name.startswith("test_") or path.stem.endswith("_test")
    return named and path.suffix == ".py" and any(map(_collected, module.body))


def _collected(node: cst.CSTNode) -> bool:
    match node:
        case cst.FunctionDef(name=cst.Name(value=name)):
            return name.startswith("test")
        case cst.ClassDef(body=cst.IndentedBlock(body=body)):
            return any(map(_collected, body))
    return False
