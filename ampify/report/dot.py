"""Training steps as graphs in the language of Graphviz, one cluster for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from ampify.listing import StepReport

_STYLES = {
    "function": "shape=box, style=rounded", "forward": "shape=box, style=filled, fillcolor=lightblue",
    "model": "shape=component", "loss": "shape=ellipse", "optimizer": "shape=cylinder", "scaler": "shape=diamond",
}  # fmt: skip
_ACT = "shape=box, style=filled, fillcolor=lightyellow"


def render(steps: Sequence[StepReport], out: TextIO) -> None:
    out.write("digraph steps {\n  rankdir=LR;\n")
    for number, step in enumerate(steps):
        out.writelines(f"  {line}\n" for line in _cluster(f"s{number}", step))
    out.write("}\n")


def _cluster(prefix: str, step: StepReport) -> Iterator[str]:
    code = f" ({step.code})" if step.code else ""
    yield f"subgraph cluster_{prefix} {{"
    yield f"  label={_quoted(f'{step.path}:{step.row} {step.where}: {step.decision}{code}')};"
    for node in step.nodes:
        label = "\n".join(dict.fromkeys((node.role, node.label, node.place)))
        yield f"  {prefix}{node.key} [label={_quoted(label)}, {_STYLES.get(node.role, _ACT)}];"
    for edge in step.edges:
        yield f"  {prefix}{edge.tail} -> {prefix}{edge.head} [label={_quoted(edge.label)}];"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")
    return f'"{escaped}"'
