"""How a scaler reaches a training step: made beside the optimizer, seen or passed along to where it is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

from ampify.model import records
from ampify.model.flow import Definition, How, Place, unwrapped
from ampify.model.step import Code, Home, Obstacle, Reach
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.walk import dotted, is_none


class Reaching:
    """Works out the `Reach` of one step; what stands in the way is in ``obstacles``."""

    def __init__(self, code: Code) -> None:
        self.code, self.tree, self.flow = code, code.tree, code.flow
        self.homes: list[Home] = []
        self.parameters: list[cst.FunctionDef] = []
        self.calls: list[tuple[cst.Call, cst.FunctionDef, Function]] = []
        self.obstacles: list[Obstacle] = []
        self.instances = code.roles.instances
        self.owners: dict[Function, cst.BaseExpression] = {}
        self._resolved: set[Place] = set()

    def solve(self, optimizers: Sequence[tuple[cst.BaseExpression, Function]], functions: Iterable[Function]) -> Reach:
        """The reach for these optimizer expressions (with their functions) and all functions that need the scaler."""
        for expression, function in optimizers:
            self._optimizer(expression, function)
        if optimizers and not self.homes and not self.obstacles:
            expression, _ = optimizers[0]
            self._unseen(expression)
        self._settle()
        if self.homes:
            for function in functions:
                self._need(function)
            self._early()
        return Reach(tuple(self.homes), tuple(self.parameters), tuple(self.calls), tuple(self.owners.items()))

    def _refuse(self, node: cst.CSTNode, reason: str) -> None:
        self.obstacles.append(Obstacle("AMP017", self.tree.span(node), reason, scaling=True))

    def _unseen(self, expression: cst.CSTNode) -> None:
        text = self.tree.text(expression)
        self._refuse(expression, f"the place where `{text}` is made cannot be seen in this file")

    # ------------------------------------------------------------------ where optimizers are made

    def _optimizer(self, expression: cst.CSTNode, function: Function) -> None:
        """Find the homes of the optimizer that ``expression`` stands for."""
        place = self.instances.place(expression)
        if place is None:
            self._refuse(expression, "the optimizer is not kept in a variable, so no scaler can be put beside it")
            return
        if place in self._resolved:
            return
        self._resolved.add(place)
        found = self._definitions(place)
        if not found and place.path[-1].startswith("["):
            found = unwrapped([d for d in self.flow.defining(place) if d.place.path == place.path[:-1]])
        if not found and not self._read_through(expression, place):
            self._unseen(expression)
        for d in found:
            self._definition(d, expression)

    def _definitions(self, place: Place) -> list[Definition]:
        """The definitions that give an optimizer; ``optimizer=None`` gives one where a call passes one."""
        found = [d for d in self.flow.assigned(place) if d.how is How.PARAM or not is_none(d.value)]
        optional = [d for d in found if d.how is How.PARAM and is_none(d.value)]
        made = [d for d in found if d not in optional]
        if not optional or not made:
            return found
        if any(not is_none(value) for d in optional for value in self.flow.passed(d)):
            reason = "an optimizer is made here for calls that pass none, so there would be two scalers"
            self._refuse(made[0].node, reason)
        return made

    def _read_through(self, expression: cst.CSTNode, place: Place) -> bool:
        """Follow a property to what it returns, a field of a record to what its constructor was given."""
        match expression:
            case cst.Attribute(value=owner, attr=cst.Name(value=name)):
                return self._property(place) or self._field(owner, name)
        return False

    def _property(self, place: Place) -> bool:
        methods = [f for f in self.flow.functions if isinstance(f, cst.FunctionDef) and f.name.value == place.path[-1]]
        for method in methods:
            cls = blocks.method_class(self.tree, method)
            getter = any(dotted(d.decorator) == ("property",) for d in method.decorators)
            if getter and cls is not None and self.flow.family(cls) is place.root and len(methods) == 1:
                for returned in self.flow.returns(method):
                    assert returned.value is not None
                    self._optimizer(returned.value, method)
                return True
        return False

    def _field(self, record: cst.BaseExpression, name: str) -> bool:
        """Whether what ``record`` holds as ``name`` was found, wherever the record is made."""
        place = self.flow.place(record)
        found = unwrapped([*self.flow.assigned(place)]) if place is not None else []
        return bool(found) and all(self._held(d, name) for d in found)

    def _held(self, d: Definition, name: str) -> bool:
        match d:
            case Definition(how=How.PARAM, function=cst.FunctionDef() as function) if passed := [*self.flow.passed(d)]:
                self._pass_to(function)
                return all(self._field(value, name) for value in passed)
            case Definition(how=How.ASSIGN, value=cst.Name() | cst.Attribute() as alias):
                return self._field(alias, name)
            case Definition(how=How.ASSIGN, value=cst.Call() as call):
                value = records.given(self.flow, call).get(name)
                if isinstance(value, cst.Name | cst.Attribute):
                    self._optimizer(value, d.function)
                elif value is not None:
                    self.homes.append(Home(d.function, d.node, self._class(d.place)))
                return value is not None
        return False

    def _class(self, place: Place) -> cst.ClassDef | None:
        return self.flow.family(place.root) if isinstance(place.root, cst.ClassDef) else None

    def _definition(self, d: Definition, expression: cst.CSTNode) -> None:
        match d.how:
            case How.PARAM if isinstance(d.function, cst.FunctionDef):
                self._parameter(d)
            case How.ITERATE:
                if not (sources := [*self.flow.drawn(d)]):
                    self._unseen(expression)
                for source in sources:
                    self._optimizer(source, d.function)
            case _ if isinstance(d.place.root, cst.ClassDef):
                self.homes.append(Home(d.function, d.node, self._class(d.place)))
            case _ if d.place.root is not self.tree.names.inner.get(d.function):
                name = d.function.name.value if isinstance(d.function, cst.FunctionDef) else "the module"
                self._refuse(d.node, f"`{name}` sets the optimizer from within, so a scaler beside it would be lost")
            case _ if isinstance(d.value, cst.Name | cst.Attribute) and self.flow.place(d.value) is not None:
                self._optimizer(d.value, d.function)
            case _:
                self.homes.append(Home(d.function, d.node, None))

    def _parameter(self, d: Definition) -> None:
        assert isinstance(d.function, cst.FunctionDef)
        self._pass_to(d.function)
        for value in self.flow.passed(d):
            if not is_none(value):
                self._optimizer(value, self.flow.function(value))

    # ------------------------------------------------------------------ passing it along

    def _pass_to(self, function: cst.FunctionDef) -> None:
        """Give ``function`` a new parameter, if every call of it can be seen."""
        if function in self.parameters:
            return
        self.parameters.append(function)
        name = function.name.value
        sites = self.flow.sites.get(function, [])
        if not sites:
            self._refuse(function.name, f"`{name}` is given its optimizer by code outside this file")
        if function in self.flow.escaping:
            self._refuse(
                function.name, f"`{name}` is also passed around as a value, so not all of its calls can be seen"
            )
        if self._overridden(function):
            self._refuse(
                function.name, f"`{name}` is overridden in this file, so its signature cannot be changed safely"
            )
        for call in sites:
            if any(a.star == "**" for a in call.args):
                self._refuse(call, f"this call of `{name}` passes its arguments as a dictionary")
            self.calls.append((call, function, self.flow.function(call)))

    def _overridden(self, function: cst.FunctionDef) -> bool:
        cls = blocks.method_class(self.tree, function)
        if cls is None or function.name.value == "__init__":
            return False
        same = [
            m
            for c in self.flow.classes
            if self.flow.family(c) is self.flow.family(cls)
            for m in c.body.body
            if isinstance(m, cst.FunctionDef) and m.name.value == function.name.value
        ]
        return len(same) > 1

    def _need(self, function: Function) -> None:
        """Make sure that ``function`` has the scaler: it sees it, or it is passed to it through all its callers."""
        stack = [function, *(caller for _, _, caller in self.calls)]
        done: set[Function] = set()
        while stack:
            f = stack.pop()
            if f in done or f in self.parameters or self.visible(f):
                continue
            done.add(f)
            if (owner := self._owner(f)) is not None:
                self.owners[f] = owner
                continue
            if not isinstance(f, cst.FunctionDef):
                self._refuse(self.homes[0].after, "the scaler made here would not be seen by the code of the module")
                return
            self._pass_to(f)
            stack += [caller for _, called, caller in self.calls if called is f]

    def _owner(self, function: Function) -> cst.BaseExpression | None:
        """How ``function``, which is outside of the class that makes the scaler, calls the object that has it."""
        cls = self.homes[0].cls
        nodes = self.flow.body[function] if cls is not None else []
        found = [n for n in nodes if isinstance(n, cst.Name | cst.Attribute) and self.instances.of(n) is cls]
        found = [n for n in found if not self._binds(n)]
        uses = [use for use in self._uses if self.flow.function(use) is function]
        if cls is None or not found or not all(self._bound(found[0], use) for use in uses):
            return None
        if len({self.tree.text(n) for n in found}) > 1:
            self._refuse(found[0], f"several objects of `{cls.name.value}` are used here, and each has its own scaler")
        return found[0]

    def _binds(self, node: cst.CSTNode) -> bool:
        """Whether ``node`` is a word of something else: the target of an assignment, or a part of a longer chain."""
        parent = self.flow.names.parent[node]
        return isinstance(parent, cst.AssignTarget | cst.Param | cst.AnnAssign | cst.AsName) or (
            isinstance(parent, cst.Attribute) and parent.attr is node
        )

    def _bound(self, owner: cst.CSTNode, use: cst.CSTNode) -> bool:
        """Whether the object is there at ``use``: what binds it here stands above."""
        place = self.flow.place(owner)
        here = [d for d in self.flow.defining(place) if d.function is self.flow.function(use)] if place else []
        return not here or any(isinstance(d.node, cst.Param) or self.flow.dominates(d, use) for d in here)

    def _early(self) -> None:
        """An evaluation that takes the scaler along cannot come before the optimizer is made."""
        for call, called, caller in self.calls:
            for home in self.homes:
                if home.function is caller and self.tree.span(call).start < self.tree.span(home.after).end:
                    self._refuse(
                        call, f"`{called.name.value}` is called here before there is an optimizer and a scaler"
                    )

    def visible(self, function: Function) -> Home | None:
        return visible_home(self.code, self.homes, function)

    # ------------------------------------------------------------------ one home per scope

    def _settle(self) -> None:
        """One home per function or class: after the last optimizer, in the block that leads to all of them."""
        if len({home.cls for home in self.homes}) > 1:
            self._refuse(
                self.homes[0].after, "its optimizers are made in different places, so they cannot share one scaler"
            )
            self.homes = self.homes[:1]
            return
        if self.homes and self.homes[0].cls is not None:
            self.homes = [self._in_class(self.homes)]
            self._hidden(self.homes[0])
            return
        grouped: dict[Function, list[Home]] = {}
        for home in self.homes:
            grouped.setdefault(home.function, []).append(home)
        self.homes = [self._last(homes) for homes in grouped.values()]

    def _in_class(self, homes: list[Home]) -> Home:
        functions = list(dict.fromkeys(h.function for h in homes))
        if len(functions) > 1:
            first = next((f for f in functions if isinstance(f, cst.FunctionDef) and f.name.value == "__init__"), None)
            if first is None:
                self._refuse(
                    homes[0].after, "its optimizers are made in several methods, so they cannot share one scaler"
                )
            functions = [first or functions[0]]
        return self._last([h for h in homes if h.function is functions[0]])

    def _hidden(self, home: Home) -> None:
        """A subclass that replaces the method that makes the scaler would be without one; so would ``__slots__``."""
        for cls in self.flow.classes:
            if home.cls is None or self.flow.family(cls) is not home.cls:
                continue
            own = [m for m in cls.body.body if isinstance(m, cst.FunctionDef)]
            for method in own:
                replaces = isinstance(home.function, cst.FunctionDef) and method.name.value == home.function.name.value
                if replaces and method is not home.function and not self._calls_super(method):
                    self._refuse(method.name, f"`{cls.name.value}` replaces the method that would make the scaler")
            if any(d.place.path == ("__slots__",) for d in self.flow.definitions.get(self.tree.names.inner[cls], ())):
                self._refuse(cls.name, f"`{cls.name.value}` has `__slots__`, so it cannot get a scaler")

    def _calls_super(self, method: cst.FunctionDef) -> bool:
        return any(
            isinstance(n, cst.Call) and isinstance(n.func, cst.Name) and n.func.value == "super"
            for n in self.flow.body[method]
        )

    def _last(self, homes: list[Home]) -> Home:
        last = max(homes, key=lambda h: self.tree.span(h.after).start)
        after = last.after
        for home in homes:
            after = self._joined(after, home.after)
        if self._used_before(after, last.function):  # remade on the way: the first one comes before all uses
            last = min(homes, key=lambda h: self.tree.span(h.after).start)
            after = last.after
        return Home(last.function, self._dominating(after, last.function), last.cls)

    def _used_before(self, after: cst.CSTNode, function: Function) -> bool:
        """Whether ``function`` uses the scaler before ``after`` has run, or ``after`` itself does."""
        end = self.tree.span(after).end
        return any(
            self.tree.contains(after, use) or (self.flow.function(use) is function and self.tree.span(use).start < end)
            for use in self._uses
        )

    def _joined(self, a: cst.CSTNode, b: cst.CSTNode) -> cst.CSTNode:
        """``a``, or the statement around it that stands in a block around ``b`` too."""
        child = a
        for parent in self.tree.parents(a):
            if isinstance(parent, Block) and self.tree.contains(parent, b):
                return child
            child = parent
        return a

    def _dominating(self, after: cst.CSTNode, function: Function) -> cst.CSTNode:
        """Climb out of branches until what is made there is there wherever the step of this function is reached."""
        uses = [node for node in self._uses if self.flow.function(node) is function]
        child: cst.CSTNode = after
        current = after
        for parent in self.tree.parents(after):
            if isinstance(parent, Block):
                current = child
                if all(self.tree.contains(parent, use) for use in uses):
                    return current
            if isinstance(parent, cst.FunctionDef):
                break
            child = parent
        return current

    _uses: tuple[cst.CSTNode, ...] = ()

    def used_at(self, nodes: Iterable[cst.CSTNode]) -> Reaching:
        """Tell where the scaler is going to be used, calls that pass it included."""
        self._uses = tuple(nodes)
        return self


def visible_home(code: Code, homes: Iterable[Home], function: Function) -> Home | None:
    """The home whose scaler ``function`` sees without being passed it."""
    around = [function, *(p for p in code.tree.parents(function) if isinstance(p, cst.FunctionDef | cst.Module))]
    cls = blocks.class_of(code.tree, function)
    for home in homes:
        if home.cls is None and home.function in around:
            return home
        if home.cls is not None and cls is not None and code.flow.family(cls) is home.cls:
            return home
    return None
