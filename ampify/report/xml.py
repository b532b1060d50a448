"""XML that every parser takes, whatever was quoted in it and whatever the output is encoded in."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TextIO

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, such as the colour codes in a traceback."""


def write(root: ET.Element, out: TextIO) -> None:
    ET.indent(root)
    out.write(
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="us-ascii").decode("ascii") + "\n"
    )


def clean(words: str) -> str:
    return _FORBIDDEN.sub("", words)
