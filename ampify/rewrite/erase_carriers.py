"""What carries scalers, contexts and switches through a file: bindings, parameters, arguments, imports."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Callable, Iterator

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.rewrite.cut import Cuts, is_quiet
from ampify.rewrite.erase_ties import wanted
from ampify.rewrite.erase_uses import Uses
from ampify.rewrite.imports import AddedImport
from ampify.syntax.blocks import small_statement_of
from ampify.syntax.tree import Tree
from ampify.syntax.walk import children, is_none, walk

Predicate = Callable[[cst.CSTNode], bool]


class Reads:
    """Which names and attributes of a file are still read."""

    def __init__(self, facts: AmpFacts) -> None:
        self.facts = facts
        self.nodes = [*reads(facts.tree)]
        self._places = {facts.place(node) for node in self.nodes}
        self._attributes = Counter(node.attr.value for node in self.nodes if isinstance(node, cst.Attribute))

    def has(self, target: cst.CSTNode) -> bool:
        """Whether what ``target`` binds is read outside its statement; an attribute may be read through any object."""
        if isinstance(target, cst.Attribute):
            return self._attributes[target.attr.value] > self._own(target)
        if not isinstance(target, cst.Name):
            return True
        in_class = isinstance(self.facts.tree.names.scope[target].node, cst.ClassDef)
        return self.facts.place(target) in self._places or (in_class and target.value in self._attributes)

    def _own(self, target: cst.Attribute) -> int:
        """How often ``self.x = args.x`` reads an ``x`` itself."""
        statement = small_statement_of(self.facts.tree, target)
        same = (n for n in walk(statement) if isinstance(n, cst.Attribute) and n.attr.value == target.attr.value)
        return sum(n is not target for n in same)


def reads(tree: Tree) -> Iterator[cst.Name | cst.Attribute]:
    """Names and attributes in the places where they are read."""
    stack: list[cst.CSTNode] = [*reversed(tree.modules)]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.Import | cst.ImportFrom | cst.Global | cst.Nonlocal):
            continue
        if isinstance(node, cst.Name | cst.Attribute) and not _is_written(tree, node):
            yield node
        stack.extend(reversed([*children(node)]))


def _is_written(tree: Tree, node: cst.CSTNode) -> bool:
    match tree.names.parent[node]:
        case cst.AssignTarget():
            return True
        case cst.AnnAssign(target=part) | cst.Attribute(attr=part) | cst.Arg(keyword=part) | cst.NamedExpr(target=part):
            return part is node
        case cst.Param(name=part) | cst.FunctionDef(name=part) | cst.ClassDef(name=part):
            return part is node
    return False


def cut_carriers(facts: AmpFacts, cuts: Cuts) -> None:
    """Scalers and contexts are no longer passed around, unless something still wants one."""
    found = Reads(facts)
    _cut_kind(facts, cuts, found, facts.is_scaler)
    _cut_kind(facts, cuts, found, facts.is_autocast)
    for node in facts.nodes:
        if (target := _target(node)) is not None and not found.has(target) and facts.makes_autocast(target):
            cuts.drop(node)


def _cut_kind(facts: AmpFacts, cuts: Cuts, found: Reads, carries: Predicate) -> None:
    doomed = {*_bindings(facts, carries), *_arguments(facts, carries), *_parameters(facts, carries)}
    held = [node for node in found.nodes if carries(node)]
    cut_all(facts.tree, cuts, doomed - wanted(facts, carries, held, doomed))


def cut_all(tree: Tree, cuts: Cuts, doomed: set[cst.CSTNode]) -> None:
    """Statements, arguments and parameters go."""
    for call in {tree.names.parent[n]: None for n in doomed if isinstance(n, cst.Arg)}:
        if isinstance(call, cst.Call):
            cuts.drop_items(call.args, doomed)
    for params in {tree.names.parent[n]: None for n in doomed if isinstance(n, cst.Param)}:
        if isinstance(params, cst.Parameters):
            items = _flat(params)
            cuts.drop_items(items, doomed | _useless_star(params, doomed))
    for node in doomed:
        if not isinstance(node, cst.Arg | cst.Param):
            cuts.drop(node)


def _flat(params: cst.Parameters) -> list[cst.CSTNode]:
    star = [params.star_arg] if isinstance(params.star_arg, cst.CSTNode) else []
    slash = [params.posonly_ind] if isinstance(params.posonly_ind, cst.CSTNode) else []
    last = [params.star_kwarg] if params.star_kwarg else []
    return [*params.posonly_params, *slash, *params.params, *star, *params.kwonly_params, *last]


def _useless_star(params: cst.Parameters, doomed: set[cst.CSTNode]) -> set[cst.CSTNode]:
    """A bare ``*`` or ``/`` that would be left with nothing to say."""
    useless: set[cst.CSTNode] = set()
    if isinstance(params.star_arg, cst.ParamStar) and all(p in doomed for p in params.kwonly_params):
        useless.add(params.star_arg)
    if isinstance(params.posonly_ind, cst.ParamSlash) and all(p in doomed for p in params.posonly_params):
        useless.add(params.posonly_ind)
    return useless


def _bindings(facts: AmpFacts, carries: Predicate) -> Iterator[cst.CSTNode]:
    for node in facts.nodes:
        if (target := _target(node)) is not None and carries(target):
            value = node.value  # type: ignore[attr-defined]
            if value is None or carries(value) or is_none(value) or facts.is_neutral(value):
                yield node


def _target(node: cst.CSTNode) -> cst.BaseExpression | None:
    """The name or attribute that a plain assignment binds."""
    match node:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() | cst.Attribute() as target)]):
            return target
        case cst.AnnAssign(target=cst.Name() | cst.Attribute() as target):
            return target
    return None


def _parameters(facts: AmpFacts, carries: Predicate) -> Iterator[cst.Param]:
    for node in facts.nodes:
        if isinstance(node, cst.FunctionDef):
            params = (*node.params.posonly_params, *node.params.params, *node.params.kwonly_params)
            yield from (p for p in params if carries(p.name))


def _arguments(facts: AmpFacts, carries: Predicate) -> Iterator[cst.Arg]:
    for call in facts.nodes:
        if isinstance(call, cst.Call):
            for arg in call.args:
                param = facts.passed.get(arg)
                unnamed = takes_anything(facts, call) or _among_others(facts, call, arg)
                goes = carries(arg.value) and unnamed if param is None else carries(param.name)
                if goes and not arg.star:
                    yield arg


def _among_others(facts: AmpFacts, call: cst.Call, arg: cst.Arg) -> bool:
    """Whether a keyword goes into the ``**kwargs`` of a function at hand, which takes whatever comes."""
    found = [*facts.callees(call)]
    return arg.keyword is not None and bool(found) and all(f.params.star_kwarg is not None for f in found)


def takes_anything(facts: AmpFacts, call: cst.Call) -> bool:
    """Whether a function of another file is called, which may be given a scaler to train with."""
    if any(facts.callees(call)) or any(path.startswith("torch.") for path in facts.paths(call.func)):
        return False
    parent = facts.tree.names.parent[call]
    if isinstance(parent, cst.Assign) and isinstance(parent.targets[0].target, cst.Tuple):
        return False  # `model, scaler = prepare(model, scaler)` gives back what it is given
    bound = isinstance(call.func, cst.Name) and facts.tree.names.scope[call.func].lookup(call.func.value)
    return bool(bound) or not (isinstance(call.func, cst.Name) and hasattr(builtins, call.func.value))


def cut_switches(facts: AmpFacts, cuts: Cuts, freed: set[str], carried: frozenset[str], had: frozenset[str]) -> None:
    """``use_amp = device.type == "cuda"`` and the like, where only AMP read it; parameters that carried it."""
    found, uses = Reads(facts), Uses(facts, cuts)
    for node in facts.nodes:
        target = _target(node)
        if target is None or found.has(target) or not isinstance(node, cst.Assign):
            continue
        name = facts.tree.text(target)
        if uses.reads_scale(node.value) or (name in freed - had and _decides(facts, node.value)):
            cuts.drop(node)
    cut_all(facts.tree, cuts, {*_switch_parameters(facts, found, freed, carried), *_carried(facts, carried)})


def _decides(facts: AmpFacts, value: cst.CSTNode) -> bool:
    """A switch, a flag of the script, or both of them at once."""
    match value:
        case cst.Name() | cst.Attribute() | cst.Subscript() if not any(isinstance(n, cst.Call) for n in walk(value)):
            return True
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return _decides(facts, inner)
        case cst.Call(func=cst.Name("bool"), args=[cst.Arg(value=inner)]):
            return _decides(facts, inner)
        case cst.BooleanOperation(left=left, right=right):
            return _decides(facts, left) and _decides(facts, right)
        case cst.Comparison(left=left):
            return is_quiet(value) or (_is_switch(facts, left) and _is_switch(facts, value))
    return _is_switch(facts, value)


def _is_switch(facts: AmpFacts, value: cst.CSTNode) -> bool:
    match value:
        case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(comparator=right)]):
            return any(isinstance(n, cst.SimpleString) and n.evaluated_value == "cuda" for n in (left, right))
        case cst.Call(func=func, args=[]):
            return "torch.cuda.is_available" in facts.paths(func)
        case cst.Attribute(value=cst.Call(func=func), attr=cst.Name("type")):
            return "torch.device" in facts.paths(func)
    return False


def _switch_parameters(
    facts: AmpFacts, found: Reads, freed: set[str], carried: frozenset[str]
) -> Iterator[cst.Param | cst.Arg]:
    """Parameters that nothing reads any more and that only ever get a switch, with the arguments for them."""
    given: dict[cst.Param, list[cst.Arg]] = {}
    for arg, param in facts.passed.items():
        given.setdefault(param, []).append(arg)
    for node in facts.nodes:
        if isinstance(node, cst.Param) and not found.has(node.name):
            args = given.get(node, [])
            name = node.name.value
            only_switches = bool(args) and all(_names_switch(facts, arg.value) for arg in args)
            if name in carried or (name in freed and only_switches):
                yield node
                yield from args


def _names_switch(facts: AmpFacts, value: cst.CSTNode) -> bool:
    flows = facts.arriving(value)
    return bool(flows) and all(v is not None and _is_switch(facts, v) for v in flows)


def _carried(facts: AmpFacts, carried: frozenset[str]) -> Iterator[cst.Arg]:
    """Arguments for a parameter that a plan added in another file."""
    for call in facts.nodes:
        if carried and isinstance(call, cst.Call) and takes_anything(facts, call):
            for arg in call.args:
                name = arg.value.attr if isinstance(arg.value, cst.Attribute) else arg.value
                if isinstance(name, cst.Name) and name.value in carried:
                    yield arg


def cut_imports(facts: AmpFacts, cuts: Cuts, freed: set[str], added: frozenset[AddedImport]) -> None:
    """Imports of AMP's names that have lost their last use, and imports that a plan added."""
    found, tree = Reads(facts), facts.tree
    read = {(tree.module(node), node.value) for node in found.nodes if isinstance(node, cst.Name)}
    for node in facts.nodes:
        if not isinstance(node, cst.Import | cst.ImportFrom) or isinstance(node.names, cst.ImportStar):
            continue
        module, part = tree.module(node), tree.source.file(tree.span(node).start)
        unread = {alias: name for alias in node.names if (module, (name := _bound_name(alias))) not in read}
        if (part, tree.text(node)) in added and (len(unread) == len(node.names) or _at_top(tree, node)):
            cuts.drop(node)
            continue
        gone: set[cst.CSTNode] = {a for a, name in unread.items() if name in freed and facts.is_amp_import(node, a)}
        if len(gone) == len(node.names):
            cuts.drop(node)
        else:
            cuts.drop_items(node.names, gone)


def _at_top(tree: Tree, statement: cst.CSTNode) -> bool:
    """Whether it stands in the body of its file: of an import that a plan put there, others used the name unbound."""
    line = tree.names.parent[statement]
    return line is not None and isinstance(tree.names.parent[line], cst.Module)


def _bound_name(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or alias.evaluated_name.partition(".")[0]
