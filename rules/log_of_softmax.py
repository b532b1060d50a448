"""AMP402: the logarithm of a softmax of a float16 tensor."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.leaving import logs_of_softmax
from ampify.model.step import FileModel
from ampify.rewrite.repair import log_softmax
from ampify.rule import Finding, rule


@rule("AMP402", "log-of-softmax", Severity.WARNING, (("softmax", "autocast"), ("softmax", needs.CAST)))
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in logs_of_softmax(model):
        message = "Small probabilities are 0 in float16, and their logarithm is infinite; use `log_softmax`"
        yield Finding(tree.span(found.log), message, log_softmax(tree, found))
