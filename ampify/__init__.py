"""ampify: find, check, convert and verify PyTorch training steps for automatic mixed precision.

What `__all__` names is loaded when it is used: `import ampify` alone loads nothing else.
"""

__version__ = "0.1.0"

__all__ = [
    "AmpifyError",
    "Converted",
    "Edit",
    "Finding",
    "Fix",
    "Note",
    "Position",
    "Verdict",
    "check_source",
    "convert_source",
    "erase_source",
    "verify_script",
]

TYPE_CHECKING = False  # as of `typing`, which is not loaded for it
if TYPE_CHECKING:
    from ampify.api import (
        AmpifyError,
        Converted,
        Edit,
        Finding,
        Fix,
        Note,
        Position,
        check_source,
        convert_source,
        erase_source,
        verify_script,
    )
    from ampify.verify.verdict import Verdict


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ampify import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
