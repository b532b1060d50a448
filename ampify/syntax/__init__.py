"""LibCST trees with names and spans. Knows Python, not PyTorch."""

owned = False
"""Whether nobody else uses LibCST in this process, as in that of the command line: `syntax.nodes` then makes its
classes cheap to ask."""
