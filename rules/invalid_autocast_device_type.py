"""AMP109: something else than a device type, such as `"cuda"`, where autocast or a scaler takes one."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.config import parse_torch
from ampify.diagnostic import Severity
from ampify.model.device_types import AUTOCAST, DECORATORS, SCALER, DeviceType, Given, device_types
from ampify.model.step import FileModel
from ampify.model.uses import Argument
from ampify.rewrite.imports import need
from ampify.rewrite.successor import first_argument, named
from ampify.rule import Finding, rule, table
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span

TABLE = table(__file__)
INDEXED = parse_torch(TABLE["indexed"])
WRONG: dict[str, str] = TABLE["wrong"]
PARAMETERS = {Given.FLAG: ("enabled", "dtype", "cache_enabled"), Given.DTYPE: ("dtype", "enabled", "cache_enabled")}
"""What the arguments of `torch.autocast` are meant for where the first is one of these."""


@rule("AMP109", "invalid-autocast-device-type", Severity.ERROR, (*needs.AUTOCAST, *needs.SCALER, *needs.CUSTOM))
def check(model: FileModel) -> Iterator[Finding]:
    for each in device_types(model):
        if not each.use.paths <= DECORATORS and not each.use.version_switch and _is_wrong(each):
            yield _finding(model, each)


def _is_wrong(each: DeviceType) -> bool:
    match each.given:
        case Given.FLAG | Given.NUMBER | Given.DTYPE | Given.NOTHING:
            return each.use.paths <= AUTOCAST  # AMP108 looks at those of scalers
        case Given.INDEXED:
            return each.use.paths <= SCALER or not each.use.supports(INDEXED)
        case Given.TEXT:
            return each.use.paths <= AUTOCAST and not each.use.supports(INDEXED)
        case Given.LITERAL:
            return each.argument is not None and each.argument.literal in WRONG
    return True


def _finding(model: FileModel, each: DeviceType) -> Finding:
    scaler = each.use.paths <= SCALER
    literal = each.argument.literal if each.argument else None
    got = f'`"{literal}"`' if literal else each.given.value
    parameter = "device" if scaler else "device_type"
    message = f'`{parameter}` must be the type of a device, such as `"cuda"`; got {got}'
    if scaler:
        message += ", with which the scaler does not notice that CUDA is missing"
    fix = _fix(model, each, literal)
    return Finding(each.span, message, fix, severity=Severity.WARNING if scaler else None)


def _fix(model: FileModel, each: DeviceType, literal: str | None) -> Fix | None:
    match each:
        case DeviceType(argument=None) if not any(a.keyword == "device" for a in each.use.arguments):
            return _added(each, ())
        case DeviceType(given=Given.FLAG | Given.DTYPE as given, argument=Argument(keyword=None)):
            return _added(each, PARAMETERS[given])
        case DeviceType(argument=Argument() as argument, device=Span() as device):
            text = f"{model.code.tree.source[device]}.type"
            return Fix("Take its type", (Edit(argument.value, text),))
        case DeviceType(given=Given.LITERAL, argument=Argument() as argument) if meant := WRONG.get(str(literal)):
            return Fix(f"Write `{meant}`", (Edit(argument.value, f'"{meant}"'),), Applicability.UNSAFE)
        case DeviceType(given=Given.INDEXED, argument=Argument() as argument) if literal is not None:
            return Fix("Leave the index out", (Edit(argument.value, f'"{literal.partition(":")[0]}"'),))
        case DeviceType(given=Given.INDEXED, argument=Argument() as argument):
            maker, imports = need(model.code.tree, "torch.device", argument.node)
            edit = Edit(argument.value, f"{maker}({model.code.tree.source[argument.value]}).type")
            return Fix("Take its type", (edit, *imports), Applicability.UNSAFE)
    return None


def _added(each: DeviceType, parameters: tuple[str, ...]) -> Fix | None:
    """Put CUDA first, and give the others their names."""
    if (edits := named(each.use.arguments, parameters)) is None:
        return None
    return Fix("Name CUDA", (*first_argument(each.use, 'device_type="cuda"'), *edits), Applicability.UNSAFE)
