"""Sparse tensors, followed from what makes them through names, attributes, parameters and results of functions."""

from __future__ import annotations

import libcst as cst

from ampify.model.flow import Flow, How

_LIBRARY = ("torch.sparse.", "torch.sparse_")
_SAME = {
    "to", "cuda", "cpu", "float", "half", "type", "t", "transpose", "coalesce", "clone", "detach", "contiguous",
    "requires_grad_",
}  # fmt: skip
"""Methods that give a sparse tensor for a sparse tensor."""


def sparse(flow: Flow, node: cst.CSTNode, seen: frozenset[object] = frozenset()) -> bool:
    """Whether ``node`` may be a sparse tensor."""
    if node in seen:
        return False
    seen |= {node}
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name)) as func) if not _imported(flow, func):
            if name.startswith("to_sparse"):
                return True
            if name in _SAME:
                return sparse(flow, inner, seen)
    if isinstance(node, cst.Call):
        if any(_makes(path) for path in _imported(flow, node.func)):
            return True
        function = flow.callee(node)
        results = flow.returns(function) if function is not None else ()
        return any(sparse(flow, r.value, seen) for r in results if r.value is not None)
    place = flow.place(node)
    if place is None or place in seen:
        return False
    return any(sparse(flow, value, seen | {place}) for value in _given(flow, node))


def _given(flow: Flow, node: cst.CSTNode) -> list[cst.BaseExpression]:
    """What a name or attribute was given anywhere; an element of what is unpacked is not told from the others."""
    place, found = flow.place(node), []
    for d in flow.assigned(place) if place is not None else ():
        match d.how:
            case How.PARAM:
                found += [*flow.passed(d)]
            case How.ASSIGN if d.value is not None:
                found.append(d.value)
    return found


def _imported(flow: Flow, node: cst.CSTNode) -> frozenset[str]:
    return flow.names.imported(node)


def _makes(path: str) -> bool:
    """Whether a function of the library gives a sparse tensor: `torch.sparse.mm` and the like may give a dense one."""
    return path.startswith(_LIBRARY) and path.endswith(("tensor", "Tensor"))
