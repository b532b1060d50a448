"""The state of a scaler beside that of the optimizer: into a checkpoint, and out of it again."""

from __future__ import annotations

import libcst as cst

from ampify.rewrite import edit
from ampify.source.edits import Edit
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

ENTRY = "scaler"
"""The name of the entry."""


def saved(tree: Tree, display: cst.Dict, scaler: str) -> Edit:
    """The state of ``scaler`` as one more entry of a dict."""
    keys = [e.key for e in display.elements if isinstance(e, cst.DictElement)]
    quote = next((k.quote for k in keys if isinstance(k, cst.SimpleString)), '"')
    return entered(tree, display, f"{quote}{ENTRY}{quote}: {scaler}.state_dict()")


def entered(tree: Tree, display: cst.Dict, entry: str) -> Edit:
    """One more entry of a dict, on a line of its own where the last one has its own."""
    last, source = display.elements[-1], tree.source
    end = tree.span(last.value).end
    others = display.elements[:-1]
    before = tree.span(others[-1].value).end if others else tree.span(display).start
    if source.line(end) == source.line(before):
        return edit.insert(end, f", {entry}")
    return edit.insert(end, f",{source.newline(end)}{source.indent(end)}{entry}")


def restored(tree: Tree, load: cst.Call, source: str, scaler: str) -> Edit:
    """After the optimizer's state; older checkpoints have none for the scaler, a disabled scaler's is empty."""
    strings = (n for n in walk(load.args[0].value) if isinstance(n, cst.SimpleString))
    quote = next((s.quote for s in strings), '"')
    name, unit = f"{quote}{ENTRY}{quote}", tree.module(load).default_indent
    return edit.after(tree, load, f"if {source}.get({name}):", f"{unit}{scaler}.load_state_dict({source}[{name}])")
