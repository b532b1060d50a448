"""Writes docs/ampify.schema.json; the tests compare it with what the code says."""

import json
from pathlib import Path

from ampify.schema import schema

FILE = Path(__file__).parents[1] / "docs" / "ampify.schema.json"


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
