"""Text and files: spans, edits, documents. Standard library only; knows nothing of Python syntax or PyTorch."""
