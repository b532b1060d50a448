"""Which files of a project make up one program, and what is followed through them."""

from __future__ import annotations

import libcst as cst

from ampify.model.flow import Flow
from ampify.model.project import Project, Summaries
from ampify.model.summary import summarize
from ampify.syntax.tree import Tree


def units(files: dict[str, str]) -> list[tuple[str, ...]]:
    summaries = [s for path, text in files.items() if (s := summarize(path, text)) is not None]
    return [unit.paths for unit in Project(Summaries(summaries)).units()]


def test_packages_that_import_each_other_in_a_circle_end():
    files = {
        "/p/a/__init__.py": "from b import shared\n",
        "/p/b/__init__.py": "from a import shared\n",
        "/p/main.py": "from a import shared\n\ndef train(loss):\n    shared(loss)\n    loss.backward()\n",
    }
    assert [path for unit in units(files) for path in unit] == [*files]


def test_the_class_of_a_value_with_many_ways_to_it():
    """Each name has the last one's value by two ways: a trillion ways lead from the last name to the class."""
    names = [f"net{number} = net{number - 1}\nnet{number} = net{number - 1}.cuda()\n" for number in range(1, 41)]
    text = "class Net:\n    def forward(self):\n        pass\n\nnet0 = Net()\n" + "".join(names) + "net40(x)\n"
    flow = Flow(Tree(text))
    call = next(c for c in flow.calls if isinstance(c.func, cst.Name) and c.func.value == "net40")
    function = flow.callee(call)
    assert function is not None
    assert function.name.value == "forward"
