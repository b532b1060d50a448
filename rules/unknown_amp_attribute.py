"""AMP110: names that PyTorch's mixed precision does not have, most of them names of Apex."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from ampify.diagnostic import Severity
from ampify.model.mentions import amp_imports, scaler_calls
from ampify.model.step import FileModel
from ampify.model.uses import ApiUse
from ampify.rule import Finding, rule, table

TABLE = table(__file__)
MODULES: dict[str, list[str]] = TABLE["modules"]
METHODS: list[str] = TABLE["scaler"]["methods"]


@rule("AMP110", "unknown-amp-attribute", Severity.ERROR)
def check(model: FileModel) -> Iterator[Finding]:
    patched = {path for use in model.uses if use.assigned for path in use.paths}
    for use in model.uses:
        if (ghost := _ghost(use)) is not None and patched.isdisjoint(use.paths):
            yield Finding(use.span, ghost)
    for each in amp_imports(model.code.tree):
        if not each.guarded and f"{each.module}.{each.name}" not in patched:
            if (message := _message(each.module, each.name)) is not None:
                yield Finding(each.span, message)
    for span, method in scaler_calls(model.code):
        if method not in METHODS and not method.startswith("_"):
            yield Finding(span, f"`GradScaler` has no method `{method}`{_near(method, METHODS)}")


def _ghost(use: ApiUse) -> str | None:
    """What is wrong with a use; the one that an import has brought is told there."""
    if use.conditional or use.version_switch or use.node is use.name or use.assigned:
        return None
    path = min(use.paths)
    if path in TABLE["autograd"]:
        return f"`{path}` does not exist; {TABLE['autograd'][path]}"
    for module in MODULES:
        if path.startswith(f"{module}."):
            return _message(module, path.removeprefix(f"{module}.").partition(".")[0])
    return None


def _message(module: str, name: str) -> str | None:
    if module not in MODULES or name in MODULES[module] or name.startswith("__"):
        return None
    hint = f"; {told}" if (told := TABLE["ghosts"].get(name)) else _near(name, MODULES[module])
    return f"`{module}.{name}` does not exist{hint}"


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
