"""`--synthetic-data`: torchvision's data sets without their files; a small stand-in takes the place of torchvision."""

import json
from textwrap import dedent

import pytest

from ampify.verify.arms import Arm, Runs
from ampify.verify.request import Request
from ampify.verify.workers import Workers

VISION = """
class VisionDataset:
    def __init__(self, root=None, transforms=None, transform=None, target_transform=None):
        self.root, self.transform, self.target_transform = root, transform, target_transform
        self.transforms = transforms
        if transform or target_transform:
            self.transforms = lambda image, target: (
                transform(image) if transform else image, target_transform(target) if target_transform else target
            )

    def _transformed(self, image, target):
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def __len__(self):
        return len(self.data)


def missing(*_):
    raise RuntimeError("Dataset not found. You can use download=True to download it")
"""
DATASETS = """
from PIL import Image
from .vision import VisionDataset, missing


class MNIST(VisionDataset):
    classes = ["0 - zero", "1 - one"] + [str(i) for i in range(2, 10)]

    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        super().__init__(root, transform=transform, target_transform=target_transform)
        missing()

    @property
    def class_to_idx(self):
        return {name: i for i, name in enumerate(self.classes)}

    def __getitem__(self, index):
        return self._transformed(Image.fromarray(self.data[index].numpy()), int(self.targets[index]))


class FashionMNIST(MNIST):
    classes = ["shirt"] + [str(i) for i in range(1, 10)]


class EMNIST(MNIST):
    classes_split_dict = {"letters": ["N/A", *"abcdefghijklmnopqrstuvwxyz"], "digits": list("0123456789")}

    def __init__(self, root, split, **kwargs):
        super().__init__(root, **kwargs)


class CIFAR10(VisionDataset):
    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        missing()

    def __getitem__(self, index):
        return self._transformed(Image.fromarray(self.data[index]), self.targets[index])


class CIFAR100(CIFAR10):
    pass


class STL10(VisionDataset):
    def __init__(self, root, split="train", folds=None, transform=None, target_transform=None, download=False):
        missing()

    def __getitem__(self, index):
        return self._transformed(Image.fromarray(self.data[index].transpose(1, 2, 0)), int(self.labels[index]))


class SVHN(STL10):
    def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
        missing()


class ImageFolder(VisionDataset):
    def __init__(self, root, transform=None, target_transform=None, loader=None):
        missing()

    def __getitem__(self, index):
        path, target = self.samples[index]
        return self._transformed(self.loader(path), target)

    def __len__(self):
        return len(self.samples)


class CelebA(VisionDataset):
    def __init__(self, root, split="train", target_type="attr", transform=None, target_transform=None, download=False):
        missing()


class LSUN(VisionDataset):
    def __init__(self, root, classes="train", transform=None, target_transform=None):
        missing()


class VOCSegmentation(VisionDataset):
    def __init__(self, root, year="2012", image_set="train", download=False, transform=None, target_transform=None,
                 transforms=None):
        missing()


class VOCDetection(VOCSegmentation):
    pass


class CocoDetection(VisionDataset):
    def __init__(self, root, annFile, transform=None, target_transform=None, transforms=None):
        missing()


class CocoCaptions(CocoDetection):
    pass


class Kinetics(VisionDataset):
    def __init__(self, root):
        missing()
"""
IMAGE = """
class Image:
    def __init__(self, array):
        self.array, self.size = array, array.shape[1::-1]


def fromarray(array, mode=None):
    assert array.dtype == "uint8" and array.ndim in (2, 3)
    return Image(array)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with a torchvision and a PIL of our own."""
    folder = tmp_path_factory.mktemp("installed")
    files = {
        "torchvision/__init__.py": "from torchvision import datasets\n",
        "torchvision/datasets/__init__.py": DATASETS,
        "torchvision/datasets/vision.py": VISION,
        "PIL/__init__.py": "",
        "PIL/Image.py": IMAGE,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def workers(installed):
    with Workers(env={"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}) as shared:
        yield shared


@pytest.fixture
def told(workers, tmp_path):
    """`told(expression)`: what a script prints as JSON, and the `synthetic` events of its run."""

    def tell(code, *, synthetic_data=True):
        script = tmp_path / "train.py"
        script.write_text("import json\nfrom torchvision import datasets\n" + dedent(code), "utf-8")
        request = Request(script=script, cwd=tmp_path, synthetic_data=synthetic_data)
        outcome = Runs(request, workers, lambda name: None).run(Arm("script", "reference"))
        assert outcome.record.end.error is None, outcome.record.end.error
        return json.loads(outcome.output.splitlines()[-1]), outcome.record.named("synthetic")

    return tell


@pytest.mark.parametrize(
    ("made", "shape", "classes"),
    [
        ("MNIST('data', train=True, download=True)", [28, 28], 10),
        ("FashionMNIST('data')", [28, 28], 10),
        ("EMNIST('data', 'letters', train=True)", [28, 28], 27),
        ("CIFAR10(root='data')", [32, 32, 3], 10),
        ("CIFAR100('data')", [32, 32, 3], 100),
        ("SVHN('data')", [3, 32, 32], 10),
        ("STL10('data')", [3, 96, 96], 10),
        ("ImageFolder('data')", [256, 256, 3], 10),
        ("CelebA('data')", [218, 178, 3], 10),
        ("LSUN('data', classes=['bedroom_train', 'church_train'])", [256, 256, 3], 2),
        ("VOCSegmentation('data')", [375, 500, 3], 21),
        ("CocoDetection('data', 'annotations.json')", [480, 640, 3], 90),
    ],
)
def test_shapes_and_classes(told, made, shape, classes):
    printed, events = told(f"""
        made = datasets.{made}
        image, target = made[len(made) - 1]
        print(json.dumps([len(made), list(image.array.shape), len(made.classes), len(made.class_to_idx), made.root]))
    """)
    count, seen, *named, root = printed
    name = made.partition("(")[0]
    assert events == ({"name": name, "shape": tuple(shape), "classes": classes, "count": count},)
    assert sorted(seen) == sorted(shape)
    assert (named, root) == ([classes, classes], "data")
    assert count >= 512


def test_the_same_in_every_run(told):
    code = """
        import zlib
        made = datasets.CIFAR10("data"), datasets.ImageFolder("data/train")
        pictures = [made[1][i][0].array for i in (0, 7)]
        print(json.dumps([zlib.crc32(made[0].data.tobytes()), [zlib.crc32(each.tobytes()) for each in pictures]]))
    """
    first, _ = told(code)
    second, _ = told("import random; random.seed(7)\nimport torch; torch.manual_seed(7)\n" + dedent(code))
    assert first == second
    assert len({first[0], *first[1]}) == 3


def test_data_does_not_move_the_generators_of_the_script(told):
    code = "import torch; {}; print(json.dumps([torch.rand(1).item()]))"
    assert told(code.format("datasets.MNIST('data')"))[0] == told(code.format("0"))[0]


def test_transforms_and_splits(told):
    printed, _ = told("""
        made = datasets.MNIST("data", transform=lambda image: image.size, target_transform=lambda label: -label - 1)
        test = datasets.MNIST("data", train=False)
        faces = datasets.CelebA("data", "valid", ["attr", "identity"], lambda image: image.size)
        print(json.dumps([made[3][0], made[3][1] < 0, test.train, len(made) > len(test), faces.split, faces[0][0],
                          [list(each.shape) for each in faces[0][1]]]))
    """)
    assert printed == [[28, 28], True, False, True, "valid", [178, 218], [[40], []]]


def test_the_kinds_that_scripts_rely_on(told):
    printed, _ = told("""
        digits, images = datasets.MNIST("data"), datasets.CIFAR10("data")
        house, none = datasets.SVHN("data"), datasets.STL10("data", split="unlabeled")
        print(json.dumps([str(digits.data.dtype), str(digits.targets.dtype), sorted(set(digits.targets.tolist())),
                          type(images.data).__name__, type(images.targets).__name__, str(house.labels.dtype),
                          set(none.labels.tolist()) == {-1}, digits.class_to_idx["1 - one"]]))
    """)
    assert printed == ["torch.uint8", "torch.int64", list(range(10)), "ndarray", "list", "int64", True, 1]


def test_brightness_tells_the_class(told):
    printed, _ = told("""
        made = datasets.CIFAR10("data")
        means = [made.data[[t == label for t in made.targets]].mean() for label in (0, 5, 9)]
        print(json.dumps(means))
    """)
    assert printed[0] + 30 < printed[1] < printed[2] - 30


def test_folders_that_are_there_name_the_classes(told, tmp_path):
    for name in ("cat", "dog", "eel"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    printed, _ = told("""
        made = datasets.ImageFolder("pictures")
        print(json.dumps([made.classes, made.class_to_idx, made.samples == made.imgs, made[4][1] == made.targets[4]]))
    """)
    assert printed == [["cat", "dog", "eel"], {"cat": 0, "dog": 1, "eel": 2}, True, True]


def test_a_class_of_the_script_derives(told):
    printed, events = told("""
        from torchvision.datasets import CIFAR10

        class Pairs(CIFAR10):
            def __init__(self, root, **options):
                super().__init__(root, **options)
                self.extra = 3

            def __getitem__(self, index):
                return super().__getitem__(index), super().__getitem__(index + 1)

        made = Pairs("data", train=False)
        print(json.dumps([len(made), made.extra, len(made[0])]))
    """)
    assert printed == [512, 3, 2]
    assert [event["name"] for event in events] == ["CIFAR10"]


def test_targets_of_detection(told):
    printed, _ = told("""
        seen = datasets.VOCDetection("data")[3][1]["annotation"], datasets.CocoDetection("data", "f.json")[3][1]
        mask = datasets.VOCSegmentation("data")[3][1]
        print(json.dumps([seen[0]["object"][0]["name"], len(seen[1][0]["bbox"]), mask.size,
                          int(mask.array.max()) < 21, len(datasets.CocoCaptions("data", "f.json")[0][1])]))
    """)
    assert printed == ["boat", 4, [500, 375], True, 5]


def test_an_iteration_ends(told):
    printed, _ = told('print(json.dumps(sum(1 for _ in datasets.LSUN("data", "val"))))')
    assert printed > 0


@pytest.mark.parametrize(("made", "on"), [("MNIST('data')", False), ("Kinetics('data')", True)])
def test_what_is_not_replaced_looks_for_its_files(told, made, on):
    printed, events = told(
        f"""
        try:
            datasets.{made}
        except RuntimeError as error:
            print(json.dumps(str(error)[:17]))
        """,
        synthetic_data=on,
    )
    assert (printed, events) == ("Dataset not found", ())


def test_loaded_in_workers(told):
    printed, _ = told("""
        import torch

        def as_tensor(image):
            return torch.from_numpy(image.array)

        loader = torch.utils.data.DataLoader(datasets.MNIST("data", transform=as_tensor), 64, num_workers=2)
        print(json.dumps(list(next(iter(loader))[0].shape)))
    """)
    assert printed == [64, 28, 28]
