"""What decides whether mixed precision is on: the device, a flag of the script for it, and an option for AMP."""

import textwrap

import pytest

from ampify.config import Settings
from ampify.engine import Mode, Run, check, check_text, fix_text
from ampify.rewrite.erase import erase_text

TRAIN = """\
model = nn.Linear(4, 2)
{move}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x{to}), y{to})
    loss.backward()
    optimizer.step()
"""
ON_DEVICE = TRAIN.format(move="model = model.to(device)", to=".to(device)")
DEVICE = 'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")\n'
HEAD = "import argparse\n\nimport torch\nfrom torch import nn\n\n"
PARSER = "parser = argparse.ArgumentParser()\n{}\nargs = parser.parse_args()\n"


def behind(test: str, above: str = "") -> str:
    """A script whose model goes to CUDA where ``test`` holds."""
    return HEAD + above + TRAIN.format(move=f"if {test}:\n    model.cuda()", to="")


def with_option(option: str, between: str = "") -> str:
    return HEAD + PARSER.format(f"parser.add_argument({option})") + between + DEVICE + ON_DEVICE


def switch(text: str, **settings) -> str:
    """What the conversion writes behind ``use_amp =``, or else behind ``enabled=``."""
    after = fix_text(text, Settings(**settings))[0]
    assert erase_text(after) == text
    return said(after)


def said(after: str) -> str:
    lines = [line.strip() for line in after.splitlines()]
    named = [line.partition(" = ")[2] for line in lines if line.startswith(("use_amp = ", "self.use_amp = "))]
    made = [line.rpartition("enabled=")[2].rstrip(")") for line in lines if "GradScaler(" in line]
    return (named or made)[0]


# Flags for CUDA


@pytest.mark.parametrize(
    ("test", "above", "expected"),
    [
        ("cuda", "cuda = torch.cuda.is_available()\n", "cuda"),
        ("use_cuda", "use_cuda = torch.cuda.device_count() > 0\n", "use_cuda"),
        ("gpus", "gpus = torch.cuda.device_count()\n", "bool(gpus)"),
        ("not cpu", "cpu = not torch.cuda.is_available()\n", "not cpu"),
        ("torch.cuda.is_available()", "", "torch.cuda.is_available()"),
        ("args.cuda", PARSER.format('parser.add_argument("--cuda", action="store_true")'), "args.cuda"),
        ("args.cuda", PARSER.format('parser.add_argument("--cuda", type=bool)'), "bool(args.cuda)"),
        ("args.gpu", "from settings import args\n\n", "torch.cuda.is_available()"),
        ('config["gpu"]', 'config = {"gpu": False}\n', 'bool(config["gpu"])'),
    ],
)
def test_flag_for_cuda(test, above, expected):
    assert switch(behind(test, above)).replace("'", '"') == expected


@pytest.mark.parametrize(
    "above",
    [
        pytest.param("cuda = False\nif loader:\n    cuda = torch.cuda.is_available()\n", id="bound-twice"),
        pytest.param("cuda = torch.cuda.is_available()\nextra = nn.Linear(2, 2).cuda()\n", id="not-all-behind-it"),
        pytest.param("cuda, cpu = choose()\nfor cuda in (True, False):\n    pass\n", id="loop"),
        pytest.param(
            "cuda = torch.cuda.is_available()\nif cuda and big:\n    extra = nn.Linear(2, 2).cuda()\n"
            "if not cuda:\n    extra = extra.cuda()\n",
            id="both-ways",
        ),
    ],
)
def test_flag_for_cuda_that_is_not_sure(above):
    assert switch(behind("cuda", above)) == "torch.cuda.is_available()"


def test_flag_for_cuda_is_a_parameter():
    text = HEAD + "def main(cuda):\n" + textwrap.indent(TRAIN.format(move="if cuda: model.cuda()", to=""), "    ")
    assert switch(text + "\n\nmain(torch.cuda.is_available())\n") == "cuda"
    assert switch(text + "\n\nmain(None)\n") == "bool(cuda)"


def test_flag_for_cuda_of_a_model_that_is_called_like_its_file():
    text = behind("cuda", "import model\ncuda = torch.cuda.is_available()\n")
    assert switch(text) == "cuda"


def test_flag_for_cuda_of_the_file_of_the_step(tmp_path):
    helper = "def move(mask, is_cuda):\n    return mask.cuda() if is_cuda else mask\n"
    main = "from helper import move\n" + behind("cuda", "cuda = torch.cuda.is_available()\n").replace(
        "model(x)", "model(move(x, 1))"
    )
    (tmp_path / "helper.py").write_text(helper, "utf-8")
    (tmp_path / "main.py").write_text(main, "utf-8")
    assert check([tmp_path], Run(mode=Mode.WRITE)).errors == ()
    assert said((tmp_path / "main.py").read_text("utf-8")) == "cuda"


def test_a_device_says_more_than_a_flag():
    text = behind("cuda", "cuda = torch.cuda.is_available()\n" + DEVICE).replace("model(x)", "model(x.to(device))")
    assert switch(text) == 'device.type == "cuda"'


# Options for mixed precision


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ('"--amp", action="store_true"', "args.amp"),
        ('"--no-amp", dest="amp", action="store_false"', "args.amp"),
        ('"-a", "--use-amp", action="store_true", default=True', "args.use_amp"),
        ('"--fp16", action="store_true", default=None', "bool(args.fp16)"),
        ('"--mixed_precision", type=bool', "bool(args.mixed_precision)"),
        ('"--amp", action=argparse.BooleanOptionalAction, default=False', "args.amp"),
    ],
)
def test_option_is_the_switch(option, expected):
    assert switch(with_option(option)) == f'{expected} and device.type == "cuda"'


def test_an_option_that_reaches_the_class_of_a_name():
    parser = PARSER.format('parser.add_argument("--amp", action="store_true")\nparser.add_argument("--b", type=bool)')
    run = "class Run:\n    def __init__(self, args):\n        self.args = args\n\n"
    run += "    def train(self):\n        print(self.args.b)\n"
    classes = run + textwrap.indent(DEVICE + ON_DEVICE, "        ") + "\n\nclass Other(Run):\n    pass\n\n\n"
    main = textwrap.indent(f"{parser}Chosen = Other if args.b else Run\nChosen(args).train()\n", "    ")
    assert switch(f"{HEAD}{classes}def main():\n{main}\n\nmain()\n") == 'self.args.amp and device.type == "cuda"'


@pytest.mark.parametrize(
    "option",
    ['"--amp", type=str, default="O1"', '"--amplitude", action="store_true"', '"--half", action="store_true"'],
)
def test_option_that_means_something_else(option):
    assert switch(with_option(option)) == 'device.type == "cuda"'


@pytest.mark.parametrize(
    "between",
    [
        "print(args)\n",
        "print(args.amp)\n",
        "import logging\n\nlogging.info('%s', vars(args))\n",
        "for name, value in sorted(vars(args).items()):\n    print(name, value)\n",
        "def report(options):\n    print(options)\n\n\nreport(args)\n",
    ],
)
def test_reports_are_no_readers(between):
    assert switch(with_option('"--amp", action="store_true"', between)) == 'args.amp and device.type == "cuda"'


@pytest.mark.parametrize(
    "between",
    [
        "if args.amp:\n    setup()\n",
        "depth = getattr(args, 'amp')\n",
        "args.amp = False\n",
        "from tools import prepare\n\nprepare(args)\n",
        "def deeper(options):\n    return unknown(options)\n\n\ndeeper(args)\n",
        "options = dict(**vars(args))\n",
    ],
)
def test_option_that_has_or_may_have_a_reader(between):
    assert switch(with_option('"--amp", action="store_true"', between)) == 'device.type == "cuda"'


def test_two_options_are_not_chosen_between():
    text = with_option('"--amp", action="store_true"', "")
    both = text.replace("args = parser", 'parser.add_argument("--fp16", action="store_true")\nargs = parser')
    assert switch(both) == 'device.type == "cuda"'


def test_option_and_flag_for_cuda():
    option = 'parser.add_argument("--amp", action="store_true")'
    assert switch(behind("cuda", PARSER.format(option) + "cuda = torch.cuda.is_available()\n")) == "args.amp and cuda"


def test_option_of_click():
    main = "import click\n\n\n@click.command()\n@click.option('--amp/--no-amp', default=False)\ndef main(amp):\n"
    text = HEAD + main + textwrap.indent(DEVICE + ON_DEVICE, "    ") + "\n\nmain()\n"
    assert switch(text) == 'amp and device.type == "cuda"'
    assert switch(text.replace("def main(amp):", "def main(amp):\n    prepare(amp)")) == 'device.type == "cuda"'


def test_option_of_a_class():
    fields = "import tyro\n\n\nclass Args:\n    lr: float = 0.1\n    amp: bool = False\n\n\n"
    text = HEAD + fields + "args = tyro.cli(Args)\n" + DEVICE + ON_DEVICE
    assert switch(text) == 'args.amp and device.type == "cuda"'
    assert switch(text.replace("tyro.cli(Args)", "Args()")) == 'args.amp and device.type == "cuda"'


def test_bfloat16_listens_as_well():
    text = with_option('"--amp", action="store_true"')
    assert switch(text, dtype="bfloat16") == 'args.amp and device.type == "cuda"'


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        ("prepare(args)\n", "`prepare(args)` may read it already"),
        ("", "it cannot be read everywhere that autocast is switched on"),
    ],
)
def test_says_why_an_option_is_left_alone(between, reason):
    text = with_option('"--amp", action="store_true"', between)
    if not between:
        main = "def main():\n" + textwrap.indent(DEVICE + ON_DEVICE, "    ")
        parse = textwrap.indent(PARSER.format('parser.add_argument("--amp", action="store_true")'), "    ")
        text = HEAD + main + "\n\ndef start():\n" + parse + "    main()\n\n\nstart()\n"
    (found,) = [d for d in check_text(text, Settings()) if d.code == "AMP001"]
    assert f"`--amp` is not made to switch mixed precision: {reason}" in [note.message for note in found.notes]


SCRIPT = """\
def train(loader):
    {body}


if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(data)
"""


def test_a_device_of_the_script_is_no_device_of_those_who_import_it():
    used = textwrap.indent(ON_DEVICE, "    ").lstrip()
    assert switch(HEAD + SCRIPT.format(body=used)) == 'device.type == "cuda"'
    unused = textwrap.indent(TRAIN.format(move="model.cuda()", to=".cuda()"), "    ").lstrip()
    assert switch(HEAD + SCRIPT.format(body=unused)) == "torch.cuda.is_available()"
