"""LibCST trees with names and spans. Knows Python, not PyTorch."""

import sys

owned = False
"""Whether nobody else uses LibCST in this process, as in that of the command line: `syntax.nodes` then makes its
classes cheap to ask."""

_REMEMBERING = (
    ("ampify.syntax.tree", "_read"), ("ampify.syntax.names", "scoped"), ("ampify.syntax.blocks", "bodies"),
)  # fmt: skip


def forget() -> None:
    """Let go of the trees that are remembered, if there are any: 64 of a library take more than half a gigabyte."""
    for module, remembering in _REMEMBERING:
        if (loaded := sys.modules.get(module)) is not None:
            getattr(loaded, remembering).cache_clear()
