"""The edits that move one training step to autocast and a GradScaler; reads in the order of the step itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from ampify.config import Settings
from ampify.model.devices import Devices
from ampify.model.flags import Flag, Unheard, Wish, title
from ampify.model.flow import params
from ampify.model.options import Option
from ampify.model.reach import visible_home
from ampify.model.step import Backward, Device, Home, InnerGradient, OptimizerStep, Region, Subregion, TrainingStep
from ampify.rewrite import checkpoints, edit
from ampify.rewrite.habits import quoted, width
from ampify.rewrite.imports import AddedImport, added_import, need
from ampify.rewrite.placement import Placement
from ampify.source.edits import Edit, splice
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import dotted, target_names

_FLOAT = "\0"
"""Stands for ``.float()`` in a text that is on its way; no Python source holds it."""


class Unsaid(ValueError):
    """What switches mixed precision on, or the device, cannot be read where it has to be known."""


class Adoption:
    """One step on its way to mixed precision: the names that are written, and the edits that write them."""

    def __init__(
        self,
        step: TrainingStep,
        settings: Settings,
        placement: Placement,
        wishes: Sequence[Wish] = (),
        scale: Sequence[str] = (),
    ) -> None:
        self.step, self.settings, self.placement = step, settings, placement
        self.wishes, self.scale = wishes, scale
        self.code, self.tree, self.flow = step.code, step.tree, step.code.flow
        self.cuda = quoted(self.tree, step.acts[0].node, "cuda")
        self.scaling = settings.dtype == "float16" and settings.device != "cpu"
        self.devices = Devices(step.code)
        self.metal = self.devices.metal and (settings.target_torch is None or settings.target_torch < (2, 5))
        self.imports: dict[AddedImport, tuple[Edit, ...]] = {}
        self.folds: list[str] = []
        self.closures: list[str] = []
        self.floats: list[Edit] = []
        self.owners = dict(step.reach.owners)
        self._taken: set[str] = set()
        self._inside = [*self._in_float()]
        self._done: set[int] = set()
        self.use_amp = self._free("use_amp")
        self.device_type = self._free("device_type")
        self.scaler_name = "scaler" if self._is_free("scaler") else self._free("grad_scaler")
        self.option = self._heard()

    def edits(self) -> Iterator[Edit]:
        for home in self.step.reach.homes:
            yield from self._home(home)
        if self.scaling:
            self._agree()
            yield from self._travel()
        for region in self.step.regions:
            yield from self._region(region)
        for subregion in self.step.subregions:
            yield from self._subregion(subregion)
        yield from self._islands()
        if self.scaling:
            yield from self._scaled()
            yield from self._penalties()
            yield from self._stepped()
            yield from self._checkpoints()
        for found in self.imports.values():
            yield from found

    # ------------------------------------------------------------------ names

    def _is_free(self, name: str) -> bool:
        reach = self.step.reach
        functions = [*(h.function for h in reach.homes), *reach.parameters, *self.step.functions]
        classes = {h.cls for h in reach.homes if h.cls is not None}
        attributes = {d.place.path[0] for c in classes for d in self.flow.definitions.get(c, ())}
        attributes |= {n.attr.value for n in self.tree.all(cst.Attribute) if classes}
        if any(h.cls is not None for h in reach.homes):
            return name not in attributes and not self.tree.names.taken(name, reach.parameters)
        return not self.tree.names.taken(name, functions) and name not in self._taken

    def _free(self, name: str) -> str:
        """``name``, or the first of ``name_1``, ``name_2`` … that means nothing yet where the step stands."""
        candidate, number = name, 0
        while not self._is_free(candidate):
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def fresh(self, name: str, function: Function) -> str:
        """A name for an expression of ``function`` that had none."""
        candidate, number = name, 0
        while candidate in self._taken or self.tree.names.taken(candidate, [function]):
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        self.folds.append(candidate)
        return candidate

    def spell(self, path: str, at: cst.CSTNode) -> str:
        """How ``path`` is written at ``at``; the import that it may need is among the edits."""
        if spelled := self.tree.names.spell(path, at):
            return spelled
        root, edits = need(self.tree, "torch", at)
        if edits:
            self.imports[added_import(self.tree, edits)] = edits
        return root + path.removeprefix("torch")

    def _self(self, function: Function) -> str:
        """What the instance is called in a method, or in a function nested in one."""
        around = [function, *self.tree.parents(function)]
        method = next(f for f in around if blocks.method_class(self.tree, f) is not None)
        assert isinstance(method, cst.FunctionDef)
        return next(params(method)).name.value

    def _visible(self, function: Function) -> Home | None:
        if any(f in self.step.reach.parameters for f in (function, *self.tree.parents(function))):
            return None
        if function in self.owners:
            return self.step.reach.homes[0]
        return visible_home(self.step.code, self.step.reach.homes, function)

    def _named(self, name: str, function: Function) -> str:
        """A name of the home as ``function`` writes it."""
        if function in self.owners:
            return f"{self.tree.text(self.owners[function])}.{name}"
        home = self._visible(function)
        return f"{self._self(function)}.{name}" if home is not None and home.cls is not None else name

    def scaler(self, function: Function) -> str:
        return self._named(self.scaler_name, function)

    # ------------------------------------------------------------------ the device

    def _device_type(self, device: Device, home: bool, prefix: str = "") -> str:
        """The type of a device as an expression; of one that autocast may not know, that which AMP is on for."""
        if device.expression is None or device.may_be_none or self.metal:
            return self.cuda
        return f"{prefix}{self.device_type}" if home and not device.is_object else self._kind(device.expression, device)

    def _kind(self, expression: cst.BaseExpression, device: Device) -> str:
        text = self.tree.text(expression)
        return f"{text}.type" if device.is_object else f"{self.spell('torch.device', expression)}({text}).type"

    def _home_device(self, home: Home) -> Device:
        return self.devices.seen_from(home.function, home.after)

    def _region_device(self, function: Function) -> str:
        if self.settings.device == "cpu":
            return '"cpu"'
        home = self._visible(function) if function not in self.owners else None
        if home is not None:
            device = self._home_device(home)
            attribute = device.expression is not None and dotted(device.expression)[0] == self._maybe_self(
                home.function
            )
            prefix = f"{self._self(function)}." if home.cls is not None else ""
            if home.cls is None or (attribute and device.is_object) or device.expression is None:
                return self._device_type(device, home=True)
            if not device.is_object:
                return self._device_type(device, home=True, prefix=prefix)
        return self._device_type(self.devices.seen_from(function), home=False)

    def _maybe_self(self, function: Function) -> str | None:
        return self._self(function) if blocks.class_of(self.tree, function) is not None else None

    def _agree(self) -> None:
        """A region may be on a device, a field of a record (``args.device``), that the scaler's home cannot name."""
        homes = [self._home_device(home) for home in self.step.reach.homes]
        if all(device.expression is not None or device.flag is not None for device in homes):
            return
        apart = (r.function for r in self.step.regions if self._visible(r.function) is None)
        for device in (self.devices.seen_from(function).expression for function in apart):
            if isinstance(device, cst.Attribute):
                raise Unsaid(f"where the scaler would be made, `{self.tree.text(device)}` is not known")

    # ------------------------------------------------------------------ whether it is on

    def _on(self, device: Device, kind: str, function: Function, before: cst.CSTNode | None = None) -> str:
        """What decides whether mixed precision is on, as ``function`` can say it."""
        if device.expression is not None and device.may_be_none:
            given = self.tree.text(device.expression)
            on = f"{given} is not None and {self._kind(device.expression, device)} == {self.cuda}"
        elif device.expression is not None:
            on = f"{self._kind(device.expression, device) if self.metal else kind} == {self.cuda}"
        elif device.flag is not None:
            on = self._truth(device.flag, function)
        else:
            on = f"{self.spell('torch.cuda.is_available', before or function)}()"
        if self.wishes:
            return " and ".join([*self._wished(function, before), on])
        wish = self.devices.flags.wish(self.option, function, before) if self.option is not None else None
        return f"{self._truth(wish, function)} and {on}" if wish is not None else on

    def _wished(self, function: Function, before: cst.CSTNode | None) -> list[str]:
        """The conditions that the program had for its mixed precision, as ``function`` can say them."""
        own = [w for w in self.wishes if (w.file, w.function) == title(self.tree, function)]
        for wish in own or self.wishes[: len({w.tests for w in self.wishes}) == 1]:
            if (said := self.devices.flags.said(wish, function, before)) is not None:
                return said
        missing = " and ".join(own[0].tests if own else self.wishes[0].tests)
        raise Unsaid(f"`{missing}` decides on mixed precision, and cannot be read where the scaler is made")

    def _truth(self, flag: Flag, function: Function) -> str:
        """A flag as True or False: ``enabled`` takes nothing else."""
        head = f"{self._self(function)}." if isinstance(flag.place.root, cst.ClassDef) else ""
        text = head + ".".join(flag.place.path).replace(".[", "[")
        return f"not {text}" if flag.negated else text if flag.is_bool else f"bool({text})"

    def _direct(self, home: Home) -> str | None:
        """The flag of the script where it can stand for ``use_amp`` in all functions that see it."""
        flag = self._home_device(home).flag
        if (
            self.option is not None
            or self.wishes
            or home.cls is not None
            or flag is None
            or flag.negated
            or not flag.is_bool
        ):
            return None
        functions = [r.function for r in self.step.regions if self._visible(r.function) is home]
        seen = all(self.devices.flags.means(flag, f) for f in functions)
        return self._truth(flag, home.function) if seen else None

    def _heard(self) -> Option | None:
        """The script's own option for mixed precision, if it can be read in all places that have to know."""
        unheard = None if self.wishes else self.devices.flags.unheard
        if unheard is None or unheard.doubt is not None:
            return None
        at = [(home.function, home.after) for home in self.step.reach.homes]
        if not self.scaling:
            at += [(r.function, r.first) for r in self.step.regions if self._visible(r.function) is None]
        found = [self.devices.flags.wish(unheard.option, function, node) for function, node in at]
        return unheard.option if None not in found else None

    @property
    def unheard(self) -> Unheard | None:
        """The option for mixed precision that stays without effect."""
        return (
            self.devices.flags.unheard
            if self.option is None and not self.wishes and self.settings.device != "cpu"
            else None
        )

    # ------------------------------------------------------------------ the scaler: made, passed along

    def _home(self, home: Home) -> Iterator[Edit]:
        """``use_amp`` and the scaler below the optimizer."""
        seen = any(self._visible(region.function) is not None for region in self.step.regions)
        if self.settings.device == "cpu" or not (self.scaling or seen):
            return
        device = self._home_device(home)
        prefix = f"{self._self(home.function)}." if home.cls is not None else ""
        lines = []
        if device.expression is not None and not device.is_object and not device.may_be_none and not self.metal:
            made = self.spell("torch.device", home.after)
            lines.append(f"{prefix}{self.device_type} = {made}({self.tree.text(device.expression)}).type")
        if self._direct(home) is None:
            kind = self._device_type(device, home=True, prefix=prefix)
            lines.append(f"{prefix}{self.use_amp} = {self._on(device, kind, home.function, home.after)}")
        if self.scaling:
            lines += self._made(home, device, prefix)
        yield edit.after(self.tree, home.after, *lines)

    def _made(self, home: Home, device: Device, prefix: str) -> list[str]:
        old = self.settings.target_torch is not None and self.settings.target_torch < (2, 3)
        path = "torch.cuda.amp.GradScaler" if old else "torch.amp.GradScaler"
        arguments = [] if old else [self._device_type(device, home=True, prefix=prefix)]
        arguments += self.scale
        arguments.append(f"enabled={self._direct(home) or prefix + self.use_amp}")
        head = f"{prefix}{self.scaler_name} = {self.spell(path, home.after)}"
        return self._lines(home.after, head, arguments, "")

    def _lines(self, at: cst.CSTNode, head: str, arguments: list[str], tail: str) -> list[str]:
        unit = self.tree.module(at).default_indent
        indent = self.tree.source.indent(self.tree.span(at).start).expandtabs(4)
        return edit.call_lines(
            head, arguments, tail, width(self.tree, at, self.settings.line_length) - len(indent), unit
        )

    def _travel(self) -> Iterator[Edit]:
        """The scaler becomes a parameter of functions that are passed their optimizer."""
        for function in self.step.reach.parameters:
            yield edit.parameter(self.tree, function, self.scaler_name)
        for call in dict.fromkeys(call for call, _, _ in self.step.reach.calls):
            found = [(function, caller) for c, function, caller in self.step.reach.calls if c is call]
            name = self.scaler(found[0][1])
            by_keyword = any(self._by_keyword(call, function) for function, _ in found)
            yield edit.argument(self.tree, call, f"{self.scaler_name}={name}" if by_keyword else name)

    def _by_keyword(self, call: cst.Call, function: cst.FunctionDef) -> bool:
        """Whether the place of the new parameter is not the one behind the arguments of ``call``."""
        if edit.takes_keyword(function) or any(a.keyword is not None or a.star for a in call.args):
            return True
        if self.flow.values.filled(call) or any(h.partial for h in self.flow.handed(call)):
            return True
        return len(call.args) < len(function.params.params) - self.flow.bound(call, function)

    # ------------------------------------------------------------------ autocast

    def _header(self, region: Region) -> list[str]:
        at = region.first
        statement = blocks.small_statement_of(self.tree, at)
        autocast, dtype = self.spell("torch.autocast", at), self.spell(f"torch.{self.settings.dtype}", at)
        arguments = [
            f"device_type={self._region_device(region.function)}",
            f"dtype={dtype}",
            f"enabled={self._enabled(region.function)}",
        ]
        return self._lines(statement, f"with {autocast}", arguments, ":")

    def _enabled(self, function: Function) -> str:
        if self.settings.device == "cpu":
            return "True"
        if (home := self._visible(function)) is not None:
            return self._direct(home) or self._named(self.use_amp, function)
        if self.scaling:
            return f"{self.scaler(function)}.is_enabled()"
        return self._on(self.devices.seen_from(function), self._region_device(function), function)

    def _region(self, region: Region) -> Iterator[Edit]:
        inner = [*self._hoisted(region)]
        header = self._header(region)
        lines = [line for line, _ in inner]
        if region.statements:
            for made in edit.wrap(self.tree, region.statements, header, lines):
                yield from self._marked(made)
        else:
            yield from self._marked(edit.wrapped_lines(self.tree, region.first, header, lines))
        for _, edits in inner:
            yield from edits

    def _subregion(self, subregion: Subregion) -> Iterator[Edit]:
        """Autocast switched off for one statement; its operands are cast with all that has to be in float32."""
        statement = blocks.statement_of(self.tree, subregion.statement)
        kind = self.cuda if self.metal else f"{self.tree.text(subregion.device)}.device.type"
        autocast = self.spell("torch.autocast", statement)
        yield from edit.wrap(self.tree, [statement], [f"with {autocast}(device_type={kind}, enabled=False):"])

    def _marked(self, made: Edit) -> Iterator[Edit]:
        """An insertion as several where it holds ``.float()``: the proof is told where each of those lands."""
        first, *rest = made.text.split(_FLOAT)
        yield Edit(made.span, first)
        for text in rest:
            self.floats.append(edit.insert(made.span.start, ".float()"))
            yield self.floats[-1]
            yield edit.insert(made.span.start, text)

    def _moved(self, span: Span) -> str:
        """The text of an expression that moves, with what happens inside it done."""
        within = [e for e in self._inside if e.span in span]
        self._done |= {id(e) for e in within}
        moved = [Edit(Span(e.span.start - span.start, e.span.end - span.start), e.text) for e in within]
        return splice(self.tree.source[span], moved)

    def _hoisted(self, region: Region) -> Iterator[tuple[str, tuple[Edit, ...]]]:
        """Expressions that get a name inside the region; what is left of them outside is the name."""
        for hoist in region.hoists:
            name = self.fresh(hoist.name, region.function)
            span = self.tree.span(hoist.expression)
            bare = self._bare(hoist.expression)
            text = self._moved(bare if "\n" not in self.tree.source[bare] else span)
            used = [Edit(span, name)]
            if hoist.to_float:
                self.floats.append(edit.insert(span.end, ".float()"))
                used.append(self.floats[-1])
            yield f"{name} = {text}", tuple(used)

    def _bare(self, node: cst.BaseExpression) -> Span:
        """The span of an expression without the parentheses around it."""
        span = self.tree.span(node)
        for left, right in zip(node.lpar, reversed(node.rpar), strict=True):
            span = Span(self.tree.span(left).end, self.tree.span(right).start)
        return span

    def _islands(self) -> Iterator[Edit]:
        """What has to be in float32, unless it has moved with an expression into a region."""
        for made in (e for e in self._inside if id(e) not in self._done):
            if made.text == _FLOAT:
                made = Edit(made.span, ".float()")
                self.floats.append(made)
            yield made

    def _in_float(self) -> Iterator[Edit]:
        """``x.float()`` for what losses, sigmoids and distributions take; ``.float()`` stands as a mark."""
        cast = dict.fromkeys(node for subregion in self.step.subregions for node in subregion.floats)
        for node in (*self.step.floats, *(self.step.filled if self.scaling else ()), *cast):
            span = self.tree.span(node)
            primary = isinstance(node, cst.Name | cst.Attribute | cst.Subscript | cst.Call) or bool(node.lpar)
            if not primary:
                yield edit.insert(span.start, "(")
                yield edit.insert(span.end, ")")
            yield edit.insert(span.end, _FLOAT)
        for split in self.step.splits:  # net(x) → net[-1](net[:-1](x).float()): the sigmoid at its end in float32
            module, call = self.tree.span(split.module), self.tree.span(split.call)
            yield edit.insert(self.tree.span(split.call.func).start, f"{self.tree.source[module]}[-1](")
            yield edit.insert(module.end, "[:-1]")
            yield edit.insert(call.end, _FLOAT)
            yield edit.insert(call.end, ")")

    # ------------------------------------------------------------------ backward, step, update

    def _scaled(self) -> Iterator[Edit]:
        hoisted = {id(h.expression) for region in self.step.regions for h in region.hoists}
        for act in self.step.every(Backward):
            if act.scaler is None:
                yield from self._scale(act.loss, act.function, id(act.loss) in hoisted)

    def _scale(self, loss: cst.BaseExpression, function: Function, hoisted: bool) -> Iterator[Edit]:
        span, head = self.tree.span(loss), f"{self.scaler(function)}.scale("
        if loss.lpar and not hoisted:
            yield Edit(Span(span.start, span.start + 1), head)
        else:
            yield edit.insert(span.start, head)
            yield edit.insert(span.end, ")")

    def _penalties(self) -> Iterator[Edit]:
        """``torch.autograd.grad`` gives gradients of no optimizer: scale what goes in, unscale what comes out."""
        hoisted = {id(h.expression) for region in self.step.regions for h in region.hoists}
        for act in self.step.every(InnerGradient):
            yield from self._scale(act.outputs, act.function, id(act.outputs) in hoisted)
            yield edit.after(self.tree, act.node, *self._unscaled(act))

    def _unscaled(self, act: InnerGradient) -> list[str]:
        scale = f"1.0 / {self.scaler(act.function)}.get_scale()"
        statement = blocks.small_statement_of(self.tree, act.node)
        assert isinstance(statement, cst.Assign)
        target = statement.targets[0].target
        names = [n.value for n in target_names(target)]
        single = isinstance(target, cst.Tuple | cst.List) or isinstance(statement.value, cst.Subscript)
        if single:
            return [f"{name} = {name} * ({scale})" for name in names]
        factor = self.fresh("inv_scale", act.function)
        self.folds.remove(factor)
        element = next(e for e in ("g", "gradient", "g_") if e not in names)
        return [f"{factor} = {scale}", *(f"{n} = [{element} * {factor} for {element} in {n}]" for n in names)]

    def _stepped(self) -> Iterator[Edit]:
        placed = self.placement
        for node, acts in placed.unscales.items():
            lines = [f"{self.scaler(a.function)}.unscale_({self._optimizer(a)})" for a in acts]
            yield edit.before(self.tree, node, *dict.fromkeys(lines))
        for act in self.step.every(OptimizerStep):
            assert isinstance(act.node, cst.Call)
            if act.closure is not None:
                yield from self._evaluated(act)
            elif act.scaler is None:
                optimizer, comma = self.tree.text(act.optimizer), ", " if act.node.args else ""
                yield Edit(self.tree.span(act.node.func), f"{self.scaler(act.function)}.step")
                yield edit.insert(edit.opening(self.tree, act.node), optimizer + comma)
        for node, function in placed.updates.items():
            yield edit.after(self.tree, node, f"{self.scaler(function)}.update()")
        for node, function in placed.early_updates.items():
            yield edit.before(self.tree, node, f"{self.scaler(function)}.update()")

    def _optimizer(self, act: OptimizerStep) -> str:
        """An optimizer as the function of ``act`` writes it, which may be outside of its class."""
        place = self.flow.place(act.optimizer)
        if act.function in self.owners and place is not None and place.root is self.step.reach.homes[0].cls:
            return ".".join((self.tree.text(self.owners[act.function]), *place.path))
        return self.tree.text(act.optimizer)

    def _evaluated(self, act: OptimizerStep) -> Iterator[Edit]:
        """``opt.step(closure)`` → ``closure()`` and a step without it: a first-order optimizer calls it once, first."""
        assert act.closure is not None
        closure = self.tree.text(act.closure)
        self.closures.append(closure)
        yield Edit(self.tree.span(act.node), f"{closure}()")
        yield edit.after(self.tree, act.node, f"{self.scaler(act.function)}.step({self.tree.text(act.optimizer)})")

    # ------------------------------------------------------------------ checkpoints

    def _checkpoints(self) -> Iterator[Edit]:
        done: set[cst.CSTNode] = set()
        name = checkpoints.entry(self.step.checkpoints)
        for checkpoint in self.step.checkpoints:
            scaler = self.scaler(checkpoint.function)
            if checkpoint.display is not None and checkpoint.display not in done:
                done.add(checkpoint.display)
                yield checkpoints.saved(self.tree, checkpoint.display, scaler, name)
            elif checkpoint.named is not None and checkpoint.named not in done:
                done.add(checkpoint.named)
                yield edit.argument(self.tree, checkpoint.named, f"{checkpoints.ENTRY}={scaler}")
            elif checkpoint.load is not None and checkpoint.source is not None and checkpoint.function not in done:
                done.add(checkpoint.function)
                yield checkpoints.restored(self.tree, checkpoint.load, self.tree.text(checkpoint.source), scaler, name)
