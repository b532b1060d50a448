"""Parents, scopes and bindings of one module, or of several that import each other, in a single iterative walk.

LibCST's own Parent, Scope and QualifiedName providers know the same and cost 20 times as much.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property, lru_cache

import libcst as cst

from ampify.syntax.links import Links, member
from ampify.syntax.walk import Kinds, children, dotted, target_names

REMEMBERED = 64
"""Files. Most groups are read with the same files around them; reading is three quarters of the time."""


class Bound(Enum):
    """How a name came to be bound."""

    IMPORT = auto()
    ASSIGN = auto()
    PARAM = auto()
    FUNCTION = auto()
    CLASS = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """One place that binds a name. ``path`` is what an import binds, ``value`` what a plain assignment does."""

    how: Bound
    node: cst.CSTNode
    path: str | None = None
    value: cst.BaseExpression | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """Module, class, function, lambda or comprehension."""

    node: cst.CSTNode
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    elsewhere: dict[str, Scope] = field(default_factory=dict)
    """Names declared ``global`` or ``nonlocal``, with the scope that they live in."""
    stars: list[str] = field(default_factory=list)
    """Modules imported with ``*``: any name may come from them."""

    def bind(self, name: str, binding: Binding) -> None:
        home = self.elsewhere.get(name, self)
        home.bindings.setdefault(name, []).append(binding)

    def find(self, name: str) -> Scope | None:
        """The scope in which ``name``, as used here, is bound."""
        scope: Scope | None = self
        inner = True
        while scope is not None:
            if name in scope.elsewhere:
                return scope.elsewhere[name]
            if (inner or not isinstance(scope.node, cst.ClassDef)) and name in scope.bindings:
                return scope
            inner = False
            scope = scope.parent
        return None

    def lookup(self, name: str) -> list[Binding]:
        scope = self.find(name)
        return scope.bindings.get(name, []) if scope else []

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def top(self) -> Scope:
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


Origin = tuple[Scope, tuple[str, ...]]
"""A module among those at hand, and a chain of names in it."""


class Names:
    """The names of modules: ``parent`` and ``scope`` of each node, and what names stand for."""

    def __init__(self, modules: Sequence[cst.Module], links: Links | None = None) -> None:
        self.parent: dict[cst.CSTNode, cst.CSTNode | None] = {}
        self.scope: dict[cst.CSTNode, Scope] = {}
        self.inner: dict[cst.CSTNode, Scope] = {}
        self._links = links or Links()
        self._imported: dict[cst.CSTNode, frozenset[str]] = {}
        self._tops = [self._add(scoped(module)) for module in modules]
        self._numbers = {module: number for number, module in enumerate(modules)}

    def _add(self, module: Scoped) -> Scope:
        self.parent |= module.parent
        self.scope |= module.scope
        self.inner |= module.inner
        return module.top

    def imported(self, node: cst.CSTNode) -> frozenset[str]:
        """Every dotted import path that a plain chain of names may stand for; empty for what is local or unknown.

        One assignment is looked through (``amp = torch.cuda.amp``), and imports from the modules at hand are.
        Several paths: the import is conditional.
        """
        if node not in self._imported:
            chain = dotted(node)
            self._imported[node] = (
                frozenset(self._paths(self.scope[node], chain, follow=True)) if chain else frozenset()
            )
        return self._imported[node]

    def _paths(self, scope: Scope, chain: tuple[str, ...], follow: bool) -> Iterator[str]:
        root, *rest = chain
        bindings = scope.lookup(root)
        for binding in bindings:
            if binding.path is not None:
                path = ".".join((binding.path, *rest))
                if len(bindings) > 1 or (origin := self._linked(path, scope)) is None:
                    yield path  # of a name that means other things too, what it leads to cannot be relied on
                elif origin[1] and self._out_of_sight(*origin):
                    yield path
                elif origin[1]:
                    yield from self._paths(*origin, follow=False)
            elif follow and binding.value is not None and (alias := dotted(binding.value)) and alias[0] != root:
                yield from self._paths(self.scope[binding.value], (*alias, *rest), follow=False)

    def bindings(self, node: cst.CSTNode) -> list[Binding]:
        """What binds a name, here or in another file at hand, or what a chain of names leads to there."""
        match self.origin(node):
            case (home, (name,)):
                return home.lookup(name)
        return self.scope[node].lookup(node.value) if isinstance(node, cst.Name) else []

    def origin(self, node: cst.CSTNode) -> Origin | None:
        """Where in another module at hand a chain of names comes from, if it can only be that place."""
        if len(self._tops) == 1:
            return None
        chain, scope = dotted(node), self.scope[node]
        bindings = scope.lookup(chain[0]) if chain else []
        if not chain or (bindings and bindings[0].path is None):  # of this module: most names are
            return None
        found = self._origin(scope, chain, frozenset())
        return found if found is not None and found[0].top is not scope.top else None

    def _origin(self, scope: Scope, chain: tuple[str, ...], seen: frozenset[Scope]) -> Origin | None:
        """Follow ``chain`` through imports, re-exports and star imports to the module that binds its first name."""
        root, *rest = chain
        match scope.lookup(root):
            case [] if scope.top not in seen:
                stars = (self._linked(member(star, root), scope) for star in scope.top.stars)
                homes = {star[0] for star in stars if star is not None and star[1] == (root,)}
                found = [self._origin(home, chain, seen | {scope.top}) for home in homes]
                known = [origin for origin in found if origin is not None]
                return known[0] if len(known) == 1 else None
            case [Binding(path=str(path)), *more] if all(b.path == path for b in more):
                if (origin := self._linked(".".join((path, *rest)), scope)) is None:
                    return None
                return self._origin(*origin, seen | {scope.top}) if origin[1] and origin[0] not in seen else origin
            case [Binding(path=None), *_]:
                return (home, chain) if (home := scope.find(root)) is not None else None
        return None

    def _out_of_sight(self, home: Scope, chain: tuple[str, ...]) -> bool:
        """Whether a module at hand does not bind a name: it may come by a star import, or be in another version."""
        return not home.lookup(chain[0]) and self._origin(home, chain, frozenset()) is None

    def _linked(self, path: str, scope: Scope) -> Origin | None:
        """What ``path``, imported in ``scope``, leads to among the modules at hand."""
        top = scope.top.node
        found = self._links.target(path, self._numbers[top]) if isinstance(top, cst.Module) else None
        return (self._tops[found[0]], found[1]) if found is not None else None

    def unknown(self, name: str, at: cst.CSTNode) -> bool:
        """Whether ``name`` may come from a star import."""
        scope = self.scope[at]
        return not scope.lookup(name) and any(s.stars for s in scope.chain())

    def undefined(self, name: str, at: cst.CSTNode) -> bool:
        """Whether nothing at all defines ``name``: the text is an excerpt."""
        scope = self.scope[at]
        return not scope.lookup(name) and not any(s.stars for s in scope.chain()) and not hasattr(builtins, name)

    def spell(self, path: str, at: cst.CSTNode) -> str | None:
        """The shortest way to write import path ``path`` at node ``at``; None where no import allows it."""
        scope = self.inner.get(at, self.scope[at])
        ways = []
        for name in {name for s in scope.chain() for name in s.bindings}:
            bindings = scope.lookup(name)
            prefixes = {b.path for b in bindings if not self.for_checkers(b.node)}
            if len(prefixes) == 1 and (prefix := prefixes.pop()) and (path == prefix or path.startswith(prefix + ".")):
                ways.append(name + path[len(prefix) :])
        return min(ways, key=lambda way: (len(way), way), default=None)

    def for_checkers(self, node: cst.CSTNode) -> bool:
        """Whether ``node`` stands under ``if TYPE_CHECKING:``, so that it is not there at run time."""
        while (parent := self.parent[node]) is not None:
            if isinstance(parent, cst.If) and node is parent.body and dotted(parent.test)[-1:] == ("TYPE_CHECKING",):
                return True
            node = parent
        return False

    def taken(self, name: str, at: Iterable[cst.CSTNode]) -> bool:
        """Whether ``name`` means something, is declared, or is used unbound, in a scope of ``at`` or one inside it."""
        homes = {id(self.inner.get(node, self.scope[node])) for node in at}
        bound = (scope for scope in self.inner.values() if name in scope.bindings or name in scope.elsewhere)
        return any(homes & {id(s) for s in scope.chain()} for scope in (*bound, *self._unbound.get(name, ()))) or any(
            self.inner.get(node, self.scope[node]).lookup(name) for node in at
        )

    @cached_property
    def _unbound(self) -> dict[str, set[Scope]]:
        """By name, the scopes that use it where no module at hand binds it: others may do so at run time."""
        found: dict[str, set[Scope]] = {}
        for node, scope in self.scope.items():
            if isinstance(node, cst.Name) and scope.find(node.value) is None:
                match self.parent[node]:
                    case cst.Attribute(attr=attr) if attr is node:
                        continue
                    case cst.Arg(keyword=keyword) if keyword is node:
                        continue
                found.setdefault(node.value, set()).add(scope)
        return found


@dataclass(frozen=True, slots=True)
class Scoped:
    """One module: the parent and the scope of each node, and the scopes that nodes open."""

    top: Scope
    parent: dict[cst.CSTNode, cst.CSTNode | None] = field(default_factory=dict)
    scope: dict[cst.CSTNode, Scope] = field(default_factory=dict)
    inner: dict[cst.CSTNode, Scope] = field(default_factory=dict)


_BINDS = Kinds(
    cst.Import, cst.ImportFrom, cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.AugAssign, cst.For, cst.CompFor,
    cst.AsName, cst.MatchAs, cst.MatchStar, cst.MatchMapping, cst.Param, cst.Del, cst.FunctionDef, cst.ClassDef,
    cst.TypeAlias, cst.TypeVar, cst.TypeVarTuple, cst.ParamSpec, cst.Lambda, cst.BaseComp,
)  # fmt: skip
"""What binds names or opens a scope; most nodes do neither."""


@lru_cache(REMEMBERED)
def scoped(module: cst.Module) -> Scoped:
    """The scopes of one module, which are the same whatever it is read with."""
    found = Scoped(Scope(module, None))
    declared = _declarations(module)
    stack: list[tuple[cst.CSTNode, cst.CSTNode | None, Scope]] = [(module, None, found.top)]
    while stack:
        node, parent, scope = stack.pop()
        found.parent[node], found.scope[node] = parent, scope
        if not _BINDS[type(node)]:
            stack += [(kid, node, scope) for kid in reversed(children(node))]
            continue
        inner = _enter(node, parent, scope)
        if inner is not scope:
            found.inner[node] = inner
            _declare(inner, declared.get(node, ()))
        stack += [(kid, node, s) for kid, s in reversed([*_placed(node, scope, inner)])]
    found.inner[module] = found.top
    return found


def _declarations(module: cst.Module) -> dict[cst.CSTNode, list[cst.Global | cst.Nonlocal]]:
    """``global`` and ``nonlocal`` by function: they hold for the whole body, also above where they stand."""
    found: dict[cst.CSTNode, list[cst.Global | cst.Nonlocal]] = {}
    stack: list[tuple[cst.CSTNode, cst.CSTNode]] = [(module, module)]
    while stack:
        node, owner = stack.pop()
        if isinstance(node, cst.Global | cst.Nonlocal):
            found.setdefault(owner, []).append(node)
        if isinstance(node, cst.BaseStatement | cst.BaseSuite | cst.Module | cst.ExceptHandler | cst.MatchCase
                      | cst.Else | cst.Finally | cst.ExceptStarHandler):  # fmt: skip
            own = node if isinstance(node, cst.FunctionDef | cst.ClassDef) else owner
            stack.extend((kid, own) for kid in children(node))
    return found


def _declare(scope: Scope, declarations: Iterable[cst.Global | cst.Nonlocal]) -> None:
    outer = [s for s in scope.chain() if s is not scope and isinstance(s.node, cst.FunctionDef)]
    for declaration in declarations:
        for name in (item.name.value for item in declaration.names):
            if isinstance(declaration, cst.Global):
                scope.elsewhere[name] = scope.top
            elif outer:  # which function binds it may stand further below; then it is the nearest
                home = next((s for s in outer if name in s.bindings or name in s.elsewhere), outer[0])
                scope.elsewhere[name] = home.elsewhere.get(name, home)


def _enter(node: cst.CSTNode, parent: cst.CSTNode | None, scope: Scope) -> Scope:
    """Bind what ``node`` binds; the scope for what is inside it."""
    match node:
        case cst.Import() | cst.ImportFrom():
            _bind_import(node, scope)
        case cst.Assign():
            value = node.value if len(node.targets) == 1 else None
            for target in node.targets:
                plain = value if isinstance(target.target, cst.Name) else None
                _bind_targets(target.target, scope, Binding(Bound.ASSIGN, node, value=plain))
        case cst.AnnAssign():
            plain = node.value if isinstance(node.target, cst.Name) else None
            _bind_targets(node.target, scope, Binding(Bound.ASSIGN, node, value=plain))
        case cst.NamedExpr():
            home = next(s for s in scope.chain() if not isinstance(s.node, cst.BaseComp))
            _bind_targets(node.target, home, Binding(Bound.ASSIGN, node, value=node.value))
        case cst.AugAssign() | cst.For() | cst.CompFor():
            _bind_targets(node.target, scope, Binding(Bound.ASSIGN, node))
        case cst.AsName() if not isinstance(parent, cst.ImportAlias):
            _bind_targets(node.name, scope, Binding(Bound.ASSIGN, node))
        case cst.MatchAs() | cst.MatchStar() if node.name is not None:
            scope.bind(node.name.value, Binding(Bound.ASSIGN, node))
        case cst.MatchMapping(rest=cst.Name(value=name)):
            scope.bind(name, Binding(Bound.ASSIGN, node))
        case cst.Param():
            scope.bind(node.name.value, Binding(Bound.PARAM, node))
        case cst.Del():
            for name_node in target_names(node.target):
                scope.bind(name_node.value, Binding(Bound.DELETE, node))
        case cst.FunctionDef() | cst.ClassDef():
            how = Bound.FUNCTION if isinstance(node, cst.FunctionDef) else Bound.CLASS
            scope.bind(node.name.value, Binding(how, node))
            return Scope(node, scope)
        case cst.TypeAlias() | cst.TypeVar() | cst.TypeVarTuple() | cst.ParamSpec():
            scope.bind(node.name.value, Binding(Bound.ASSIGN, node))
        case cst.Lambda() | cst.BaseComp():
            return Scope(node, scope)
    return scope


def _bind_targets(target: cst.CSTNode, scope: Scope, binding: Binding) -> None:
    for name in target_names(target):
        scope.bind(name.value, binding)


def _bind_import(node: cst.Import | cst.ImportFrom, scope: Scope) -> None:
    if isinstance(node, cst.ImportFrom):
        base = "." * len(node.relative) + ".".join(dotted(node.module) if node.module else ())
        if isinstance(node.names, cst.ImportStar):
            scope.stars.append(base)
            return
        for alias in node.names:
            name = alias.evaluated_alias or alias.evaluated_name
            scope.bind(name, Binding(Bound.IMPORT, node, path=member(base, alias.evaluated_name)))
        return
    for alias in node.names:
        path = dotted(alias.name)
        name, bound = (alias.evaluated_alias, ".".join(path)) if alias.evaluated_alias else (path[0], path[0])
        scope.bind(name, Binding(Bound.IMPORT, node, path=bound))


def _placed(node: cst.CSTNode, scope: Scope, inner: Scope) -> Iterator[tuple[cst.CSTNode, Scope]]:
    """The children of ``node``, each with the scope that it is evaluated in."""
    for kid in children(node):
        match node:
            case cst.FunctionDef() | cst.ClassDef():  # decorators, defaults, annotations, bases: outside
                yield kid, inner if kid is node.body or isinstance(kid, cst.Parameters) else scope
            case cst.Param():
                yield kid, scope if kid is node.name else scope.parent or scope
            case cst.CompFor() if node is getattr(scope.node, "for_in", None):  # the first iterable: outside
                yield kid, scope.parent or scope if kid is node.iter else scope
            case _:
                yield kid, inner
