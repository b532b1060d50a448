"""What one file imports, defines and does, as far as other files need to know: cheap to make, and picklable."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ampify.source.text import SEAM
from ampify.syntax.links import member
from ampify.syntax.plain import nodes

_ACTS = {"backward", "zero_grad"}


@dataclass(frozen=True, slots=True)
class Part:
    """A top-level function or class, or the code of the module itself (``name`` is empty)."""

    name: str
    acts: bool
    """Whether it differentiates, clears gradients or steps."""
    uses: frozenset[str]
    """The dotted chains of names that it reads, each prefix of a chain included."""
    bases: frozenset[str] = frozenset()
    """Those that a class is derived from."""


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file. ``imports`` maps local names to import paths, relative ones with their dots."""

    path: str
    size: int
    imports: tuple[tuple[str, str], ...]
    stars: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def acts(self) -> bool:
        return any(part.acts for part in self.parts)


def summarize(path: str, text: str) -> FileSummary | None:
    """The summary of a file; None where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    every = nodes(tree)
    return FileSummary(path, len(text), tuple(_imports(every)), tuple(_stars(every)), tuple(_parts(tree)))


def imported(statements: Iterable[bytes]) -> tuple[list[tuple[str, str]], list[str]]:
    """What import statements, each as it stands in its file, import by name and by star; prose is none."""
    every: list[ast.AST] = []
    for statement in statements:
        try:
            every += ast.parse(statement.strip()).body
        except (SyntaxError, ValueError):
            continue
    return [*_imports(every)], [*_stars(every)]


def may_differentiate(text: str) -> bool:
    """Whether a training step can begin in the files of a text; True where one does not parse."""
    try:
        every = [node for part in text.split(SEAM) for node in nodes(ast.parse(part))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return "autograd" in text or calls_scaler(text) or any(map(_is_backward, every))


def calls_scaler(text: str) -> bool:
    """Whether ``loss_scaler(loss, optimizer)`` may go backward in a text: what is around it tells what that is."""
    return "scaler" in text.lower()


def _is_backward(node: ast.AST) -> bool:
    """``loss.backward()``, ``self.manual_backward(loss)``."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("backward")


def _stars(every: list[ast.AST]) -> Iterator[str]:
    stars = (node for node in every if isinstance(node, ast.ImportFrom) and node.names[0].name == "*")
    return map(_module, stars)


def _imports(every: list[ast.AST]) -> Iterator[tuple[str, str]]:
    for node in every:
        match node:
            case ast.Import(names=names):
                yield from ((alias.asname or alias.name.partition(".")[0], _bound(alias)) for alias in names)
                yield from ((alias.name, alias.name) for alias in names if "." in alias.name and not alias.asname)
            case ast.ImportFrom(names=names) if names[0].name != "*":
                yield from ((alias.asname or alias.name, member(_module(node), alias.name)) for alias in names)


def _bound(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _module(node: ast.ImportFrom) -> str:
    """What is imported from: ``engine``, ``..``, ``.losses``."""
    return "." * node.level + (node.module or "")


def _parts(tree: ast.Module) -> Iterator[Part]:
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    for node in defined:
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        yield _part(node.name, [node], frozenset(chain for base in bases for chain in _chains(base)))
    yield _part("", [n for n in tree.body if n not in defined], frozenset())


def _part(name: str, roots: list[ast.stmt], bases: frozenset[str]) -> Part:
    every = [node for root in roots for node in nodes(root)]
    return Part(name, any(map(_is_act, every)), frozenset(chain for node in every for chain in _chains(node)), bases)


def _is_act(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) if name in _ACTS:
            return True
        case ast.Call(func=ast.Attribute(attr="step"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(value=owner, attr="step"), args=[_]):
            return any("scaler" in chain.lower() for chain in _chains(owner))
    return False


def _chains(node: ast.AST) -> Iterator[str]:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        yield ".".join((node.id, *reversed(parts)))
