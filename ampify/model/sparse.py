"""Sparse tensors, followed from what makes them through names, attributes, parameters and results of functions.

Seen in half precision: products of one in COO layout with a dense matrix raise on CUDA (H100, torch 2.11:
"addmm_sparse_cuda" not implemented for 'Half') and work on the CPU (torch 2.13); products of two in COO layout, and all
of one in CSR layout, raise on the CPU and work on CUDA. Graphs that a library hands over in CSR layout stay in float32,
and the backward of `torch.sparse.mm` multiplies them with gradients in half precision.
"""

from __future__ import annotations

from collections.abc import Collection

import libcst as cst

from ampify.model.definitions import How
from ampify.model.flow import Flow

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
    """Whether a program makes graphs whose adjacency matrices are in CSR layout."""
    if not any(_imported(flow, call.func) & _GRAPHS for call in flow.calls):
        return False
    names = (n for n in flow.tree.nodes() if isinstance(n, cst.Name | cst.Attribute))
    return not any(path.startswith(_OWN_KERNELS) for n in names for path in _imported(flow, n))


def layouts(flow: Flow, node: cst.CSTNode, seen: frozenset[object] = frozenset()) -> frozenset[str]:
    """The layouts that ``node`` may have as a sparse tensor; none for what is dense or unknown."""
    if node in seen:
        return _DENSE
    seen |= {node}
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name)) as func) if not _imported(flow, func):
            if name in _TURNING:
                return frozenset({_TURNING[name]})
            if name in _SAME:
                return layouts(flow, inner, seen)
        case cst.Call(func=func) if made := frozenset(_MAKING[p] for p in _imported(flow, func) if p in _MAKING):
            return made
    if isinstance(node, cst.Call):
        function = flow.callee(node)
        results = flow.returns(function) if function is not None else ()
        return _DENSE.union(*(layouts(flow, r.value, seen) for r in results if r.value is not None))
    place = flow.place(node)
    if place is None or place in seen:
        return _DENSE
    return _DENSE.union(*(layouts(flow, value, seen | {place}) for value in _given(flow, node)))


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
