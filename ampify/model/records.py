"""Dataclasses and named tuples of the file: what their constructors put into which field."""

from __future__ import annotations

import libcst as cst

from ampify.model.flow import Flow

_DATACLASSES = {"dataclasses.dataclass", "attr.s", "attr.dataclass", "attrs.define", "attrs.mutable", "attrs.frozen"}
_TUPLES = {"collections.namedtuple"}


def given(flow: Flow, call: cst.Call) -> dict[str, cst.BaseExpression]:
    """What ``call`` puts into which field, if it makes a record that is declared in this file; else empty."""
    fields = _fields(flow, call.func)
    if any(arg.star for arg in call.args):
        return {}
    plain = [arg.value for arg in call.args if arg.keyword is None]
    named = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    return dict(zip(fields, plain, strict=False)) | {name: named[name] for name in fields if name in named}


def _fields(flow: Flow, maker: cst.BaseExpression) -> tuple[str, ...]:
    """The fields of a record type in the order of its constructor; empty for anything else."""
    made = flow.named(maker)
    if isinstance(made, cst.ClassDef):
        return _declared(made) if _is_record(flow, made) else ()
    match [b.value for b in flow.names.scope[maker].lookup(maker.value)] if isinstance(maker, cst.Name) else []:
        case [cst.Call(func=func, args=[_, cst.Arg(value=listed)])] if flow.names.imported(func) & _TUPLES:
            return _listed(listed)
    return ()


def _is_record(flow: Flow, cls: cst.ClassDef) -> bool:
    """Whether the fields of a class are those that it declares itself, and its constructor is made from them."""
    decorators = [d.decorator.func if isinstance(d.decorator, cst.Call) else d.decorator for d in cls.decorators]
    decorated = any(flow.names.imported(d) & _DATACLASSES for d in decorators) and not cls.bases
    tupled = len(cls.bases) == 1 and "typing.NamedTuple" in flow.names.imported(cls.bases[0].value)
    own = flow.method(cls, "__init__") or flow.method(cls, "__new__") or flow.method(cls, "__post_init__")
    return (decorated or tupled) and own is None


def _declared(cls: cst.ClassDef) -> tuple[str, ...]:
    lines = (line.body[0] for line in cls.body.body if isinstance(line, cst.SimpleStatementLine))
    return tuple(n.target.value for n in lines if isinstance(n, cst.AnnAssign) and isinstance(n.target, cst.Name))


def _listed(names: cst.BaseExpression) -> tuple[str, ...]:
    match names:
        case cst.SimpleString():
            text = names.evaluated_value
            return tuple(text.replace(",", " ").split()) if isinstance(text, str) else ()
        case cst.List(elements=elements) | cst.Tuple(elements=elements):
            strings = [e.value.evaluated_value for e in elements if isinstance(e.value, cst.SimpleString)]
            return tuple(str(s) for s in strings) if len(strings) == len(elements) else ()
    return ()
