"""AMP110: names that PyTorch's mixed precision does not have, most of them names of Apex."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.mentions import amp_imports, scaler_calls
from ampify.model.uses import ApiUse
from ampify.rewrite.ghosts import Program, meant
from ampify.rule import Finding, rule, table

TABLE = table(__file__)
MODULES: dict[str, list[str]] = TABLE["modules"]
METHODS: list[str] = TABLE["scaler"]["methods"]


@rule("AMP110", "unknown-amp-attribute", Severity.ERROR, (*needs.NAMESPACE, *needs.SCALER, ("autograd", "Optimizer")))
def check(program: Program) -> Iterator[Finding]:
    model = program.model
    patched = {path for use in model.uses if use.assigned for path in use.paths}
    taken = [(use.span, path) for use in model.uses if (path := _taken(use)) is not None]
    taken += [(each.span, f"{each.module}.{each.name}") for each in amp_imports(model.code.tree) if not each.guarded]
    for span, path in taken:
        if path not in patched and (message := _message(path)) is not None:
            scales = path.rpartition(".")[2] == "scale_loss"
            yield Finding(span, message, meant(program) if scales else None)
    for span, method in scaler_calls(model.code):
        if method not in METHODS and not method.startswith("_"):
            yield Finding(span, f"`GradScaler` has no method `{method}`{_near(method, METHODS)}")


def _taken(use: ApiUse) -> str | None:
    """The path that a use takes something from; a name that was imported is told where it is imported."""
    depends = use.conditional or use.version_switch or use.assigned or not use.attributes
    return None if depends else min(use.paths)


def _message(path: str) -> str | None:
    """What is wrong with a path, None if it exists."""
    if path in TABLE["autograd"]:
        return f"`{path}` does not exist; {TABLE['autograd'][path]}"
    for module, known in MODULES.items():
        name = path.removeprefix(f"{module}.").partition(".")[0]
        if path.startswith(f"{module}.") and name not in known and not name.startswith("__"):
            told = TABLE["ghosts"].get(name)
            return f"`{module}.{name}` does not exist{f'; {told}' if told else _near(name, known)}"
    return None


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
