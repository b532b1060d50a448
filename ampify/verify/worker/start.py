"""Entry of the worker in the user's interpreter: `start.py serve SCRATCH`, `run JOB` or `compare SPEC`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys

PACKAGE = "_ampify_worker"


def load(module: str):  # type: ignore[no-untyped-def]  # a module is called by names that mypy cannot see
    """A module of the worker, whose folder no script ever sees on `sys.path`."""
    folder = os.path.dirname(os.path.realpath(__file__))
    if PACKAGE not in sys.modules:
        sys.path[:] = [path for path in sys.path if os.path.realpath(path) != folder]
        spec = importlib.util.spec_from_file_location(
            PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[PACKAGE] = package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.{module}")


def main(command: str, *paths: str) -> None:
    """Do what the command line says; `run` ends the process."""
    if command == "serve":
        load("serve").serve(*paths)
    elif command == "run":
        load("run").main(*paths)
    elif command == "compare":
        with open(paths[0], encoding="utf-8") as file:
            sys.stdout.write(json.dumps(load("keep").compare(json.load(file))))
    else:
        sys.exit(f"unknown command {command!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
