"""Runs the original and the converted script and says level by level what holds; `worker` alone imports torch."""
