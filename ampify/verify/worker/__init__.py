"""Runs one arm of `ampify verify` in the user's interpreter: torch and the standard library, nothing of ampify."""
