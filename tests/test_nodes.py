"""LibCST's classes are left as they are for others in the process, and say the same where ampify owns it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUEST = """
from abc import ABCMeta
import libcst as cst
from libcst._nodes.base import CSTNode

def kinds(kind):
    return {kind}.union(*map(kinds, type.__subclasses__(kind)))

def state():
    return {kind: (type(kind), kind.__eq__, kind.__hash__) for kind in kinds(CSTNode)}

class Meta(ABCMeta):
    pass

class Named(cst.Name):
    def __eq__(self, other):
        return isinstance(other, Named) and self.value == other.value
    def __hash__(self):
        return hash(self.value)

class Stranger:
    pass

cst.BaseExpression.register(Stranger)
SOURCE = "import torch\\nwith torch.cuda.amp.autocast():\\n    pass\\n"
"""
LIBRARY = """
before = state()
import ampify
assert [found.code for found in ampify.check_source(SOURCE)] == ["AMP101"]
assert state() == before
assert isinstance(Stranger(), cst.BaseExpression)
assert Named("a") == Named("a")
class Derived(cst.Name, metaclass=Meta): pass
assert cst.Name("a") != cst.Name("a")
"""
PROGRAM = """
found = sorted(kinds(CSTNode) - {Named}, key=lambda kind: kind.__qualname__)
asked = [[issubclass(one, other) for other in found] for one in found]
from ampify import syntax
syntax.owned = True
import ampify.syntax.walk
changed = {*ampify.syntax.nodes.kinds()}
assert {type(kind).__name__ for kind in changed} == {"_Plain"}
assert changed == {*found}, {*found} ^ changed
assert [[issubclass(one, other) for other in found] for one in found] == asked
assert Named("a") == Named("a") and isinstance(Named("a"), cst.Name)
name = cst.Name("a")
assert name == name and name != cst.Name("a") and len({name, name, cst.Name("a")}) == 2
"""


@pytest.mark.parametrize("code", [LIBRARY, PROGRAM], ids=["library", "program"])
def test_the_classes_say_the_same(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", GUEST + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.returncode == 0
