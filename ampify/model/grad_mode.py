"""Where operations are not recorded for a backward pass, as far as the function at hand shows."""

from __future__ import annotations

import libcst as cst

from ampify.model import vocabulary as words
from ampify.syntax.names import Names
from ampify.syntax.tree import Tree


def switches_off(names: Names, node: cst.CSTNode) -> bool:
    """``torch.no_grad()``, the same as a decorator without parentheses, and ``torch.set_grad_enabled(False)``."""
    match node:
        case cst.Call(func=func, args=[cst.Arg(value=cst.Name(value="False"))]) if (
            names.imported(func) & words.GRAD_SET
        ):
            return True
        case cst.Call(func=func):
            return bool(names.imported(func) & words.NO_GRAD)
    return bool(names.imported(node) & words.NO_GRAD)


def gradless(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether gradients are switched off around ``node``."""
    for parent in tree.parents(node):
        match parent:
            case cst.With(items=items):
                if any(_switches_on(tree.names, i.item) for i in items):
                    return False
                if any(switches_off(tree.names, i.item) for i in items):
                    return True
            case cst.FunctionDef(decorators=decorators):
                return any(switches_off(tree.names, d.decorator) for d in decorators)
    return False


def _switches_on(names: Names, node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and "torch.enable_grad" in names.imported(node.func)
