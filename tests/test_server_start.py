"""The command `ampify server` where what it needs is missing, and other commands, which load nothing of it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_without_the_extra_one_line_says_what_to_install():
    code = "import sys; sys.modules['pygls'] = None; from ampify.cli import main; main(['server'])"
    result = run(code)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "ampify: the language server needs pygls; `pip install 'ampify[lsp]'` installs it"
    )


def test_pygls_is_loaded_by_the_server_alone():
    result = run("import sys, ampify.cli; print([n for n in sys.modules if n.startswith(('pygls', 'lsprotocol'))])")
    assert result.stdout == "[]\n"
