"""Compares what a check finds with its screens and without them: `python scripts/screened.py TREE...`.

Without them every file that names a library of ours is parsed and modelled, which takes seconds a megabyte. What
differs is printed, and the exit status is 1. Files that do not parse (AMP900) or are left alone (AMP905) are told where
they hold a needle, so these two codes are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ampify import engine, syntax

OWN = ("AMP900", "AMP905")


def findings(tree: Path, screen: engine.Screened) -> set[tuple[str, int, int, str, str]]:
    """Path, span, code and message of every finding in a tree."""
    report = engine.check([tree], engine.Run(screen=screen))
    for error in report.errors:
        print(error, file=sys.stderr)
    found = (each for file in report.files for each in file.diagnostics if each.code not in OWN)
    return {(each.path, each.span.start, each.span.end, each.code, each.message) for each in found}


def main() -> None:
    syntax.owned = True
    differ = False
    for tree in map(Path, sys.argv[1:]):
        with_screens, without = findings(tree, engine.Screened.BY_RULES), findings(tree, engine.Screened.NOT)
        print(f"{tree}: {len(with_screens)} findings with screens, {len(without)} without", flush=True)
        for sign, only in ("-", without - with_screens), ("+", with_screens - without):
            for found in sorted(only):
                differ = True
                print(sign, *found)
    sys.exit(differ)


if __name__ == "__main__":
    main()
