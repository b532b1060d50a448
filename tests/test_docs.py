"""The documentation: what is made from the code is up to date, and the site has a page for everything."""

import re
import runpy
from pathlib import Path

import pytest

from ampify.config import OPTIONS
from ampify.rule import load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def docs():
    return runpy.run_path(str(ROOT / "scripts" / "docs.py"))


def test_what_is_made_from_the_code_is_up_to_date(docs):
    assert docs["stale"]() == []


def test_every_picture_is_drawn_from_its_source():
    folder = ROOT / "docs" / "pictures"
    for source in folder.glob("*.dot"):
        picture = source.with_suffix(".svg").read_text("utf-8")
        labels = re.findall(r'label="([^"\\]*)', source.read_text("utf-8"))
        assert all(label in picture.replace("&#45;", "-").replace("&#160;", " ") for label in labels)


def test_every_key_of_a_config_file_is_described():
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert re.findall(r"^### ([\w-]+)$", text, re.M) == [*OPTIONS]


def test_every_rule_has_a_page_in_the_order_of_the_codes():
    site = runpy.run_path(str(ROOT / "scripts" / "site.py"))
    assert [page.read_text("utf-8").split()[1] for page in site["_rules"]()] == [*load()]


def test_pages_that_are_not_there_are_left_out(tmp_path):
    site = runpy.run_path(str(ROOT / "scripts" / "site.py"))
    (tmp_path / "a.md").write_text("# A\n")
    nav = [{"A": "a.md"}, {"B": "b.md"}, {"C": ["a.md", "b.md"]}, {"D": ["b.md"]}]
    assert site["_there"](nav, tmp_path) == [{"A": "a.md"}, {"C": ["a.md"]}]
