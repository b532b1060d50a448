"""The state of a scaler beside that of the optimizer: into a checkpoint, and out of it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from ampify.model.step import Checkpoint
from ampify.rewrite import edit
from ampify.source.edits import Edit
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

ENTRY = "scaler"
"""The name of the entry, unless others beside it say what they are."""
_STATES = {f"optim{end}_state{more}": f"scaler_state{more}" for end in ("", "izer") for more in ("", "_dict", "s")}


def entry(found: Iterable[Checkpoint]) -> str:
    """The name of the entry for one scaler in all its checkpoints: ``scaler_state`` beside ``optimizer_state``."""
    names = {_STATES.get(key, ENTRY) for checkpoint in found for key in _keys(checkpoint)}
    return names.pop() if len(names) == 1 else ENTRY


def _keys(checkpoint: Checkpoint) -> Iterator[str]:
    """The names that the state of the optimizer has; empty for one that is no string."""
    match checkpoint:
        case Checkpoint(display=cst.Dict(elements=elements)):
            mine = [e for e in elements if any(n is checkpoint.optimizer for n in walk(e.value))]
            yield from (_word(e.key) if isinstance(e, cst.DictElement) else "" for e in mine)
        case Checkpoint(load=cst.Call(args=[cst.Arg(value=cst.Subscript(slice=[at]))])):
            yield _word(at.slice.value) if isinstance(at.slice, cst.Index) else ""
        case _:
            yield ""


def _word(node: cst.BaseExpression) -> str:
    return str(node.evaluated_value) if isinstance(node, cst.SimpleString) else ""


def saved(tree: Tree, display: cst.Dict, scaler: str, name: str = ENTRY) -> Edit:
    """The state of ``scaler`` as one more entry of a dict."""
    keys = [e.key for e in display.elements if isinstance(e, cst.DictElement)]
    quote = next((k.quote for k in keys if isinstance(k, cst.SimpleString)), '"')
    return entered(tree, display, f"{quote}{name}{quote}: {scaler}.state_dict()")


def entered(tree: Tree, display: cst.Dict, text: str) -> Edit:
    """One more entry of a dict, on a line of its own where the last one has its own."""
    last, source = display.elements[-1], tree.source
    end = tree.span(last.value).end
    others = display.elements[:-1]
    before = tree.span(others[-1].value).end if others else tree.span(display).start
    if source.line(end) == source.line(before):
        return edit.insert(end, f", {text}")
    return edit.insert(end, f",{source.newline(end)}{source.indent(end)}{text}")


def restored(tree: Tree, load: cst.Call, source: str, scaler: str, name: str = ENTRY) -> Edit:
    """After the optimizer's state; older checkpoints have none for the scaler, a disabled scaler's is empty."""
    strings = (n for n in walk(load.args[0].value) if isinstance(n, cst.SimpleString))
    quote = next((s.quote for s in strings), '"')
    key, unit = f"{quote}{name}{quote}", tree.module(load).default_indent
    return edit.after(tree, load, f"if {source}.get({key}):", f"{unit}{scaler}.load_state_dict({source}[{key}])")
