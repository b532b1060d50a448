"""LibCST trees with names and spans. Knows Python, not PyTorch."""
