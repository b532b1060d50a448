"""The rules: pairs ``<name>.py`` + ``<name>.md``. They live in the top-level ``rules/`` folder and ship here."""

from pathlib import Path

_here = Path(__file__).parent
if not any(_here.glob("*.md")):  # a checkout: in the wheel, rules/ stands next to this file
    __path__.append(str(_here.parents[1] / "rules"))

FOLDER = Path(__path__[-1])
