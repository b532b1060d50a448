"""AMP113: the class `autocast` itself, where an instance of it is needed."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse, How
from ampify.rule import Finding, rule, table
from ampify.source.edits import Edit, Fix
from ampify.source.text import Span

CALLS = {path: arguments for arguments, paths in table(__file__)["arguments"].items() for path in paths}


@rule("AMP113", "autocast-not-called", Severity.ERROR, needs.AUTOCAST)
def check(use: ApiUse) -> Iterator[Finding]:
    bare = use.how in (How.CONTEXT, How.DECORATOR) and use.call is None
    if bare and not use.conditional and use.paths <= CALLS.keys():
        arguments = CALLS[min(use.paths)]
        end = Span(use.span.end, use.span.end)
        message = '`autocast` is a class; make an instance of it, as in `torch.autocast(device_type="cuda")`'
        yield Finding(use.span, message, Fix("Call it", (Edit(end, f"({arguments})"),)))
