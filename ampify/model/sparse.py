"""Sparse tensors, followed from what makes them through names, attributes, parameters and results of functions.

Seen in half precision: products of one in COO layout with a dense matrix raise on CUDA (H100, torch 2.11:
"addmm_sparse_cuda" not implemented for 'Half') and work on the CPU (torch 2.13); products of two in COO layout, and all
of one in CSR layout, raise on the CPU and work on CUDA. Graphs that a library hands over in CSR layout stay in float32,
and the backward of `torch.sparse.mm` multiplies them with gradients in half precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import libcst as cst

from ampify.model import libraries
from ampify.model.definitions import How
from ampify.model.dtypes import unpacked
from ampify.model.flow import Flow
from ampify.syntax.walk import dotted

COO, OTHER = "COO", "compressed"
"""Layouts of sparse tensors."""
_MAKING = {
    "torch.sparse_coo_tensor": COO, "torch.sparse.FloatTensor": COO, "torch.sparse.DoubleTensor": COO,
    "torch.cuda.sparse.FloatTensor": COO, "torch.sparse_csr_tensor": OTHER, "torch.sparse_csc_tensor": OTHER,
    "torch.sparse_bsr_tensor": OTHER, "torch.sparse_bsc_tensor": OTHER, "torch.sparse_compressed_tensor": OTHER,
}  # fmt: skip
_TURNING = {
    "to_sparse": COO,
    "to_sparse_coo": COO,
    "to_sparse_csr": OTHER,
    "to_sparse_csc": OTHER,
    "to_sparse_bsr": OTHER,
}
_GRAPHS = {
    "torch_geometric.transforms.ToSparseTensor",
    "torch_geometric.utils.to_torch_csr_tensor",
    "torch_geometric.utils.to_torch_csc_tensor",
}
_OWN_KERNELS = ("torch_sparse", "torch_geometric.typing.WITH_TORCH_SPARSE")
"""Where a program relies on these, its graphs are no tensors of PyTorch."""
_SAME = {
    "to", "cuda", "cpu", "float", "half", "type", "t", "transpose", "coalesce", "clone", "detach", "contiguous",
    "requires_grad_",
}  # fmt: skip
"""Methods that give a sparse tensor for a sparse tensor."""
_DENSE = frozenset[str]()


def raises(one: Collection[str], other: Collection[str], device: str) -> bool:
    """Whether the product of two matrices that may have these layouts (none: dense) raises in half precision."""
    if device == "cuda":
        return (COO in one and not other) or (COO in other and not one)
    return OTHER in {*one, *other} or (COO in one and COO in other)


def graphs(flow: Flow) -> bool:
    """Whether a program makes graphs whose adjacency matrices are in CSR layout; its library may be in sight."""
    calls = (call for call in flow.calls if _named(flow, call.func) & _GRAPHS)
    if all(_of_library(flow, call) for call in calls):
        return False
    names = (n for n in flow.tree.nodes() if isinstance(n, cst.Name | cst.Attribute))
    kernels = (n for n in names if any(path.startswith(_OWN_KERNELS) for path in _named(flow, n)))
    return all(_of_library(flow, n) for n in kernels)


def _named(flow: Flow, node: cst.CSTNode) -> frozenset[str]:
    """The import paths of a name, and those that its own file spells."""
    root, *rest = dotted(node) or ("",)
    spelled = (b.path for b in flow.names.scope[node].lookup(root) if b.path is not None)
    return _imported(flow, node).union(".".join((path, *rest)) for path in spelled)


def _of_library(flow: Flow, node: cst.CSTNode) -> bool:
    return any(libraries.defined(flow.tree.path(node) or "", ""))


def layouts(flow: Flow, node: cst.CSTNode, seen: frozenset[object] = frozenset()) -> frozenset[str]:
    """The layouts that ``node`` may have as a sparse tensor; none for what is dense or unknown."""
    if node in seen:
        return _DENSE
    seen |= {node}
    match node:
        case cst.Call() if made := _of_maker(flow, node):
            return made
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name)) as func) if not _imported(flow, func):
            if name in _SAME:
                return layouts(flow, inner, seen)
    if isinstance(node, cst.Call):
        return _DENSE.union(*(layouts(flow, value, seen) for value in _returned(flow, node)))
    place = flow.place(node)
    if place is None or place in seen:
        return _DENSE
    found = _DENSE.union(*(layouts(flow, value, seen | {place}) for value in _given(flow, node)))
    starred = any(_starred(flow, d.node) for d in flow.assigned(place) if d.how is How.PARAM)
    return found | _made(flow) if starred else found


def _given(flow: Flow, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """What a name or attribute was given anywhere; of what a function returns, the element that it unpacks."""
    place = flow.place(node)
    for d in flow.assigned(place) if place is not None else ():
        match d.how:
            case How.PARAM:
                yield from flow.passed(d)
            case How.ASSIGN if d.value is not None:
                yield d.value
            case How.UNPACK if isinstance(d.value, cst.Call) and (index := unpacked(flow, d)) is not None:
                tuples = (v for v in _returned(flow, d.value) if isinstance(v, cst.Tuple))
                yield from (t.elements[index].value for t in tuples if index < len(t.elements))


def _returned(flow: Flow, call: cst.Call) -> Iterator[cst.BaseExpression]:
    function = flow.callee(call)
    results = flow.returns(function) if function is not None else ()
    return (r.value for r in results if r.value is not None)


def _starred(flow: Flow, parameter: cst.CSTNode) -> bool:
    """Whether a call gives a parameter something out of a sequence: it may be anything that the program makes."""
    function = flow.function(parameter)
    calls = flow.sites.get(function, ()) if isinstance(function, cst.FunctionDef) else ()
    return any(arg.star for call in calls for arg in call.args)


def _made(flow: Flow) -> frozenset[str]:
    """The layouts of all sparse tensors that a program makes."""
    return _DENSE.union(*(_of_maker(flow, call) for call in flow.calls))


def _of_maker(flow: Flow, call: cst.Call) -> frozenset[str]:
    """The layout of the sparse tensor that a call makes."""
    if paths := _imported(flow, call.func):
        return frozenset(_MAKING[p] for p in paths if p in _MAKING)
    match call.func:
        case cst.Attribute(attr=cst.Name(value=name)) if name in _TURNING:
            return frozenset({_TURNING[name]})
    return _DENSE


def _imported(flow: Flow, node: cst.CSTNode) -> frozenset[str]:
    return flow.names.imported(node)
