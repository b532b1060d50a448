"""ampify: find, check, convert and verify PyTorch training steps for automatic mixed precision."""

__version__ = "0.1.0"
