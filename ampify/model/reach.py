"""How a scaler reaches a training step: made beside the optimizer, seen or passed along to where it is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

import libcst as cst

from ampify.model import records
from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow, params, unwrapped
from ampify.model.roles import Role
from ampify.model.step import Code, Home, Obstacle, Reach
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, is_none, keyword


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
        self._keeping: frozenset[Function] = frozenset()

    def solve(
        self,
        optimizers: Sequence[tuple[cst.BaseExpression, Function]],
        functions: Iterable[Function],
        keeping: Iterable[Function] = (),
    ) -> Reach:
        """The reach for these optimizer expressions (with their functions) and all functions that need the scaler;
        those ``keeping`` a state need it for that."""
        self._keeping = frozenset(keeping)
        for expression, function in optimizers:
            self._optimizer(expression, function)
        if optimizers and not self.homes and not self.obstacles:
            expression, _ = optimizers[0]
            self._unseen(expression)
        self._settle()
        if self.homes:
            for function in dict.fromkeys([*functions, *keeping]):
                self._need(function)
            self._early()
        self._shared_calls()
        return Reach(tuple(self.homes), tuple(self.parameters), tuple(self.calls), tuple(self.owners.items()))

    def _refuse(self, node: cst.CSTNode, reason: str) -> None:
        self.obstacles.append(Obstacle("AMP017", self.tree.span(node), reason, scaling=True))

    def _unseen(self, expression: cst.CSTNode) -> None:
        text, declaring = self.tree.text(expression), self._declaring(expression)
        if declaring is not None:
            reason = f"`{declaring.name.value}` only declares `{text}`: what sets it is not in these files"
        else:
            reason = f"the place where `{text}` is made cannot be seen in this file"
        self._refuse(expression, reason)

    def _declaring(self, expression: cst.CSTNode) -> cst.ClassDef | None:
        """The class that declares an attribute with its type alone: a library sets it, from an option or a file."""
        place, reading = self.instances.place(expression), blocks.class_of(self.tree, expression)
        if place is None or reading is None or self.flow.family(reading) is not place.root:
            return None
        return next((cls for cls in self._above(reading) if place.path in _declared(cls)), None)

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
        found = [d for d in self._definitions(place) if self._reaches(d, expression)]
        if not found and place.path[-1].startswith("["):
            found = unwrapped([d for d in self.flow.defining(place) if d.place.path == place.path[:-1]])
        if not found and not self._read_through(expression, place):
            self._unseen(expression)
        for d in found:
            self._definition(d, expression)

    def _reaches(self, d: Definition, expression: cst.CSTNode) -> bool:
        """Whether what a method sets is there in objects of the class that reads it, not only in those of a sibling."""
        setting, reading = (blocks.class_of(self.tree, node) for node in (d.node, expression))
        if setting is None or reading is None or self.flow.family(reading) is not d.place.root:
            return True
        return reading in self._above(setting) or setting in self._above(reading)

    def _above(self, cls: cst.ClassDef) -> list[cst.ClassDef]:
        """A class and all that it is derived from, the nearest first."""
        found = [cls]
        for known in found:
            found += [base for base in self.flow.bases(known) if base not in found]
        return found

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
                return value is not None or self._set_later(d, name)
        return False

    def _set_later(self, made: Definition, name: str) -> bool:
        """Whether the field ``name`` of what was ``made`` here is set in the same function, or by one that it calls."""
        field = Place(made.place.root, (*made.place.path, name))
        here = [d.node for d in unwrapped([*self.flow.assigned(field)]) if d.function is made.function]
        calls = [
            n for n in self.flow.body[made.function] if isinstance(n, cst.Call) and self._sets(n, made.place, name)
        ]
        for node in (*here, *(blocks.small_statement_of(self.tree, call) for call in calls)):
            self.homes.append(Home(made.function, node, None))
        return bool(here or calls) and not isinstance(made.place.root, cst.ClassDef)

    def _sets(self, call: cst.Call, record: Place, name: str, above: frozenset[cst.FunctionDef] = frozenset()) -> bool:
        """Whether ``call`` runs a function that is given ``record`` and sets its field ``name``."""
        callee = self.flow.callee(call)
        if callee is None or callee in above:
            return False
        for param in params(callee):
            value, place = self.flow.argument(call, callee, param.name.value), self.flow.place(param.name)
            if value is None or place is None or self.flow.place(value) != record:
                continue
            if unwrapped([*self.flow.assigned(Place(place.root, (*place.path, name)))]):
                return True
            inside = (n for n in self.flow.body[callee] if isinstance(n, cst.Call))
            if any(self._sets(n, place, name, above | {callee}) for n in inside):
                return True
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
        partials, sites = self._givers(function)
        if (out := self.flow.values.leaving(function, partials)) is not None:
            self._refuse(function.name, f"`{name}` is {self._handed_to(out)}, and what calls it from there is not seen")
        elif not sites:
            cls = blocks.method_class(self.tree, function)
            twice = len(self.tree.names.scope[function].lookup(name)) > 1
            told = f"`{name}` is defined more than once, so which one a call runs cannot be told"
            reason = told if twice else f"no call of `{name}` was found that gives it its optimizer"
            outside = f"{cls.name.value}.{name}" if cls is not None else name
            self.obstacles.append(
                Obstacle("AMP017", self.tree.span(function.name), reason, scaling=True, uncalled=outside)
            )
        if self._overridden(function):
            self._refuse(
                function.name, f"`{name}` is overridden in this file, so its signature cannot be changed safely"
            )
        for call in sites:
            if any(a.star == "**" for a in call.args):
                self._refuse(call, f"this call of `{name}` passes its arguments as a dictionary")
            self.calls.append((call, function, self.flow.function(call)))

    def _handed_to(self, out: cst.CSTNode) -> str:
        """Where a function goes out of sight, in words."""
        to = f"handed to `{self.tree.text(out.func)}`" if isinstance(out, cst.Call) else "handed on as a value"
        path = self.tree.path(out)
        place = f" of `{PurePath(path).name}`" if path and len(self.tree.paths) > 1 else ""
        return f"{to} (line {self.tree.line(out)}{place})"

    def _givers(self, function: cst.FunctionDef) -> tuple[list[cst.Call], list[cst.Call]]:
        """What gives ``function`` its optimizer: those of its calls that are a `partial`, and all of them."""
        sites = self.flow.sites.get(function, [])
        filling = [c for c in sites if self.flow.values.filled(c) is function]
        partials = [c for c in filling if any(self.code.roles.of(a.value) is Role.OPTIMIZER for a in c.args)]
        if partials and partials != filling:
            reason = f"only some of the partials of `{function.name.value}` are given an optimizer"
            self._refuse(function.name, reason)
        served = {c for c in sites if any(h.partial in partials for h in self.flow.handed(c) if h.function is function)}
        idle = served.union(c for c in filling if c not in partials)
        return partials, [c for c in sites if c not in idle]

    def _shared_calls(self) -> None:
        """A call that runs one of several functions has to be right for all of them."""
        for call, function, _ in self.calls:
            for handed in self.flow.handed(call):
                if handed.function not in self.parameters:
                    names = f"`{function.name.value}` is called where `{handed.function.name.value}` is"
                    self._refuse(call, f"{names}, which takes no scaler")

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
            if f in done or self._given(f) or self.visible(f):
                continue
            done.add(f)
            if (owner := self._owner(f)) is not None:
                self.owners[f] = owner
                continue
            if not isinstance(f, cst.FunctionDef):
                self._out_of_reach(function)
                return
            if (around := closing(self.code.tree, f)) is not None:
                stack.append(around)
                continue
            self._pass_to(f)
            stack += [caller for _, called, caller in self.calls if called is f]

    def _out_of_reach(self, function: Function) -> None:
        """``function`` needs the scaler, and none of those that lead to it can hand it on."""
        home = self.homes[0]
        if not isinstance(function, cst.FunctionDef):
            self._refuse(home.after, "the scaler made here would not be seen by the code of the module")
            return
        name, keeps = function.name.value, function in self._keeping
        does = "saves or restores the optimizer's state" if keeps else "takes part in the step"
        scaler = f"the scaler, which `{home.cls.name.value}` would make," if home.cls is not None else "the scaler"
        self._refuse(function.name, f"`{name}` {does}, and {scaler} is out of its reach")

    def _given(self, function: Function) -> bool:
        """Whether the scaler is a parameter of ``function``, or of a function around it."""
        return any(f in self.parameters for f in (function, *self.tree.parents(function)))

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
            self._closed(self.homes[0])
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

    def _closed(self, home: Home) -> None:
        """An object that takes no new attributes has no place for a scaler."""
        for cls in self._above(home.cls) if home.cls is not None else ():
            if _takes_no_more(self.flow, cls):
                reason = f"objects of `{cls.name.value}` take only the attributes that it declares, and no scaler"
                self.obstacles.append(Obstacle("AMP017", self.tree.span(home.after), reason))
                return

    def _hidden(self, home: Home) -> None:
        """A class that replaces the method that makes the scaler would be without one; so would ``__slots__``."""
        for cls in self.flow.classes:
            if home.cls is None or self.flow.family(cls) is not home.cls:
                continue
            if self._uses_scaler(cls) and (method := self._replacing(cls, home)) is not None:
                self._refuse(method.name, f"`{cls.name.value}` replaces the method that would make the scaler")
            if any(d.place.path == ("__slots__",) for d in self.flow.definitions.get(self.tree.names.inner[cls], ())):
                self._refuse(cls.name, f"`{cls.name.value}` has `__slots__`, so it cannot get a scaler")

    def _uses_scaler(self, cls: cst.ClassDef) -> bool:
        """Whether the step is among the methods of a class, its own or those of its bases, or outside of them all."""
        users = {blocks.class_of(self.tree, use) for use in self._uses}
        inside = {user for user in users if user is not None and self.flow.family(user) is self.flow.family(cls)}
        return inside != users or not inside.isdisjoint(self._above(cls))

    def _replacing(self, cls: cst.ClassDef, home: Home) -> cst.FunctionDef | None:
        """What objects of a class run in place of the method that makes the scaler."""
        name = home.function.name.value if isinstance(home.function, cst.FunctionDef) else ""
        method = self.flow.method(cls, name)
        if method is None or method is home.function or blocks.abstract(method) or self._calls_super(method):
            return None
        return method

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


def _declared(cls: cst.ClassDef) -> set[tuple[str, ...]]:
    """What a class names with its type alone, without a value."""
    lines = (line.body[0] for line in cls.body.body if isinstance(line, cst.SimpleStatementLine))
    found = (n.target for n in lines if isinstance(n, cst.AnnAssign) and n.value is None)
    return {(target.value,) for target in found if isinstance(target, cst.Name)}


def closing(tree: Tree, function: Function) -> cst.FunctionDef | None:
    """The function whose names ``function`` closes over."""
    return next((p for p in tree.parents(function) if isinstance(p, cst.FunctionDef)), None)


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


def _takes_no_more(flow: Flow, cls: cst.ClassDef) -> bool:
    """Whether a class says which attributes its objects may have, or looks at what is set."""
    if any(flow.names.imported(base.value) & words.CLOSED for base in cls.bases):
        return True
    made = [d.decorator for d in cls.decorators if isinstance(d.decorator, cst.Call)]
    fixed = (keyword(d, word) for d in made for word in ("frozen", "slots") if _is_dataclass(flow, d))
    if any(isinstance(word, cst.Name) and word.value == "True" for word in fixed):
        return True
    return any(_guards(node) for node in flow.inside(cls.body))


def _is_dataclass(flow: Flow, decorator: cst.Call) -> bool:
    return "dataclasses.dataclass" in flow.names.imported(decorator.func)


def _guards(node: cst.CSTNode) -> bool:
    match node:
        case cst.FunctionDef(name=cst.Name("__setattr__")) | cst.AssignTarget(target=cst.Name("__slots__")):
            return True
    return False
