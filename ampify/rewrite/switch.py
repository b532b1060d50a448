"""The fix that switches a framework's own mixed precision on, where the call that decides on it is in sight."""

from __future__ import annotations

from ampify.model.frameworks import FrameworkCall
from ampify.rewrite import checkpoints, edit
from ampify.source.edits import Applicability, Edit, Fix
from ampify.syntax.tree import Tree


def with_argument(tree: Tree, call: FrameworkCall, argument: str) -> Fix:
    """One more keyword argument."""
    return _fix(f"Pass `{argument}`", edit.argument(tree, call.node, argument))


def with_method(call: FrameworkCall, method: str) -> Fix:
    """A method called on what the call gives: ``.to_fp16()``."""
    return _fix(f"Call `{method}` on it", edit.insert(call.span.end, method))


def with_entry(tree: Tree, call: FrameworkCall, argument: str, entry: str) -> Fix | None:
    """One more entry of the dict that is given as ``argument``; None where it cannot be seen."""
    display = call.displays.get(argument)
    if display is None or not display.elements:
        return None
    return _fix(f"Add `{entry}` to `{argument}`", checkpoints.entered(tree, display, entry))


def _fix(title: str, change: Edit) -> Fix:
    return Fix(title, (change,), Applicability.UNSAFE)
