"""Made-up data in the place of torchvision's data sets: right shapes, classes and attributes, the same in every run.

The classes stay; their constructors no longer read files, and those that read a file for each item make it up. Scripts
that derive from them, or take only `data` and `targets`, notice nothing. Not covered: video, stereo and flow data sets,
`Cityscapes`, and whatever else is not named here, which look for their files as ever.
"""

from __future__ import annotations

import inspect
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Callable

import torch

from .hooks import after_import

if TYPE_CHECKING:
    from .job import Job
    from .recorder import Recorder

TRAIN, TEST = 4096, 512
"""Items of a data set; fewer of large images that are all kept in memory."""
MEMORY = 32 << 20
"""Bytes of images kept in memory."""
TESTING = ("test", "val", "valid", "validation", "test10k", "test50k")


@dataclass(frozen=True)
class Kind:
    """What a data set holds: images of ``shape`` (as they lie in memory), and where its class keeps them."""

    shape: tuple[int, ...]
    classes: int
    fill: Callable[[Any, Kind, int, dict[str, Any]], None]
    target: Callable[[Any, int, Kind], Any] | None = None
    """The target of an item; given for data sets that read a file for each item."""


def install(job: Job, recorder: Recorder) -> None:
    """Replace the constructors as soon as the script imports torchvision; each data set made is a `synthetic` event."""
    after_import("torchvision.datasets", lambda module: _replace(module, recorder))


def _replace(datasets: Any, recorder: Recorder) -> None:
    for name, kind in KINDS.items():
        found = getattr(datasets, name, None)
        if found is None:  # a release that does not have it
            continue
        found.__init__ = _constructor(found, name, kind, recorder)
        if kind.target is not None:
            found.__getitem__ = _item(kind, kind.target)
            found.__len__ = lambda self: self._ampify_count


def _constructor(owner: Any, name: str, kind: Kind, recorder: Recorder) -> Any:
    original = owner.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - takes its place
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(list(bound.arguments.items())[1:])
        given.update(given.pop("kwargs", {}))
        _remember(self, given)
        kind.fill(self, kind, _count(kind, given), given)
        recorder.emit("synthetic", name=name, shape=list(kind.shape), classes=len(self.classes), count=len(self))

    return __init__


def _remember(dataset: Any, given: dict[str, Any]) -> None:
    """What `VisionDataset` and the classes below keep of their arguments: under the same names."""
    base: Any = next(each for each in type(dataset).__mro__ if each.__name__ == "VisionDataset")
    names = ("transforms", "transform", "target_transform")
    base.__init__(dataset, given.get("root"), **{name: given[name] for name in names if given.get(name) is not None})
    kept = {name: value for name, value in given.items() if name not in (*names, "root", "download", "loader")}
    vars(dataset).update(kept)


def _count(kind: Kind, given: dict[str, Any]) -> int:
    split = next((given[name] for name in ("split", "image_set") if given.get(name)), "train")
    testing = not given.get("train", True) or split in TESTING
    whole = TEST if testing else TRAIN
    in_memory = kind.fill in (_tensors, _arrays, _labelled_arrays)
    return min(whole, MEMORY // math.prod(kind.shape)) if in_memory else whole


def _labels(count: int, classes: int) -> torch.Tensor:
    """Every class as often as every other, in an order that looks like none: int64."""
    generator = torch.Generator().manual_seed(classes)
    return torch.arange(count)[torch.randperm(count, generator=generator)] % classes


def _images(shape: Sequence[int], labels: torch.Tensor, classes: int, seed: int) -> torch.Tensor:
    """Noise that is the brighter the higher the class, so that there is something to learn: uint8."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 128, (len(labels), *shape), generator=generator, dtype=torch.uint8)
    level = (labels * 127 // max(1, classes - 1)).to(torch.uint8)
    return noise + level.view(-1, *[1] * len(shape))


def _name_classes(dataset: Any, names: Sequence[str]) -> None:
    """Under `classes` and `class_to_idx`, where the class does not have them already."""
    if not isinstance(getattr(type(dataset), "classes", None), (list, property)):
        dataset.classes = list(names)
    if not isinstance(getattr(type(dataset), "class_to_idx", None), property):
        dataset.class_to_idx = {name: i for i, name in enumerate(dataset.classes)}


def _numbered(count: int) -> list[str]:
    return [f"class {i:0{len(str(count - 1))}}" for i in range(count)]


def _tensors(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """MNIST and its family: tensors."""
    if hasattr(type(dataset), "classes_split_dict"):
        dataset.classes = list(type(dataset).classes_split_dict[given["split"]])
    else:
        _name_classes(dataset, _numbered(kind.classes))
    dataset.targets = _labels(count, len(dataset.classes))
    dataset.data = _images(kind.shape, dataset.targets, len(dataset.classes), seed=count)


def _arrays(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """CIFAR and the like: an array of images, the classes as a list."""
    _name_classes(dataset, _numbered(kind.classes))
    labels = _labels(count, kind.classes)
    dataset.data = _images(kind.shape, labels, kind.classes, seed=count).numpy()
    dataset.targets = labels.tolist()


def _labelled_arrays(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """SVHN, STL10: arrays, with `labels`, which are -1 for what has none."""
    _arrays(dataset, kind, count, given)
    labels = torch.tensor(dataset.targets)
    dataset.labels = (torch.full_like(labels, -1) if given.get("split") == "unlabeled" else labels).numpy()
    del dataset.targets


def _folder(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """ImageFolder: paths that are not there, and a loader that makes up what they would hold."""
    root = str(given["root"])
    found = sorted(each.name for each in os.scandir(root) if each.is_dir()) if os.path.isdir(root) else []
    _name_classes(dataset, found or _numbered(kind.classes))
    classes = len(dataset.classes)
    count = TEST if os.path.basename(os.path.normpath(root)) in TESTING else count
    dataset.targets = _labels(count, classes).tolist()
    dataset.samples = dataset.imgs = [
        (os.path.join(root, dataset.classes[target], f"{i}.png"), target) for i, target in enumerate(dataset.targets)
    ]
    levels = dict(dataset.samples)
    dataset.loader = lambda path: _picture(kind.shape, levels.get(path, 0), classes, zlib.crc32(os.fsencode(path)))
    dataset.extensions = (".png",)


def _files(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """A file for each item: made up when it is asked for."""
    names = given.get("classes")
    _name_classes(dataset, names if isinstance(names, list) else _numbered(kind.classes))
    dataset.targets = [i % len(dataset.classes) for i in range(count)]
    dataset._ampify_count = count


def _faces(dataset: Any, kind: Kind, count: int, given: dict[str, Any]) -> None:
    """CelebA: tables with a row for each image."""
    _files(dataset, kind, count, given)
    generator = torch.Generator().manual_seed(count)
    dataset.target_type = given["target_type"] if isinstance(given["target_type"], list) else [given["target_type"]]
    dataset.filename = [f"{i + 1:06}.jpg" for i in range(count)]
    dataset.attr = torch.randint(0, 2, (count, 40), generator=generator)
    dataset.attr_names = _numbered(40)
    dataset.identity = torch.randint(1, 10178, (count, 1), generator=generator)
    dataset.bbox = torch.randint(0, 100, (count, 4), generator=generator)
    dataset.landmarks_align = torch.randint(0, 178, (count, 10), generator=generator)


def _picture(shape: Sequence[int], label: int, classes: int, seed: int) -> Any:
    """A `PIL.Image`: RGB, or L where the shape has no channels."""
    from PIL import Image

    return Image.fromarray(_images(shape, torch.tensor([label]), classes, seed)[0].numpy())


def _item(kind: Kind, target: Callable[[Any, int, Kind], Any]) -> Any:
    def __getitem__(self: Any, index: int) -> Any:  # noqa: N807 - takes its place
        if not 0 <= index < len(self):
            raise IndexError(index)
        label = index % kind.classes
        pair = _picture(kind.shape, label, kind.classes, index), target(self, index, kind)
        return pair if self.transforms is None else self.transforms(*pair)

    return __getitem__


def _class(dataset: Any, index: int, kind: Kind) -> Any:
    return dataset.targets[index]


def _attributes(dataset: Any, index: int, kind: Kind) -> Any:
    tables = {
        "attr": dataset.attr[index],
        "identity": dataset.identity[index, 0],
        "bbox": dataset.bbox[index],
        "landmarks": dataset.landmarks_align[index],
    }
    found = tuple(tables[each] for each in dataset.target_type)
    return (found if len(found) > 1 else found[0]) if found else None


def _mask(dataset: Any, index: int, kind: Kind) -> Any:
    """A class for each pixel, as an image of mode L."""
    from PIL import Image

    height, width = kind.shape[:2]
    generator = torch.Generator().manual_seed(index)
    blocks = torch.randint(0, kind.classes, (height // 25, width // 25), generator=generator, dtype=torch.uint8)
    return Image.fromarray(blocks.repeat_interleave(25, 0).repeat_interleave(25, 1).numpy())


def _box(index: int, kind: Kind) -> list[int]:
    """Left, top, width, height."""
    height, width = kind.shape[:2]
    return [index % (width // 2), index % (height // 2), width // 4, height // 4]


def _objects(dataset: Any, index: int, kind: Kind) -> list[dict[str, Any]]:
    """One object, in the words of COCO."""
    x, y, width, height = _box(index, kind)
    outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return [
        {"id": index, "image_id": index, "category_id": index % kind.classes + 1, "bbox": [x, y, width, height],
         "area": width * height, "iscrowd": 0, "segmentation": outline}
    ]  # fmt: skip


def _captions(dataset: Any, index: int, kind: Kind) -> list[str]:
    return [f"A picture of class {index % kind.classes}, said for the {n + 1}. time" for n in range(5)]


def _annotation(dataset: Any, index: int, kind: Kind) -> dict[str, Any]:
    """One object, in the words of Pascal VOC."""
    x, y, width, height = _box(index, kind)
    corners = {"xmin": str(x + 1), "ymin": str(y + 1), "xmax": str(x + width), "ymax": str(y + height)}
    size = {"width": str(kind.shape[1]), "height": str(kind.shape[0]), "depth": "3"}
    thing = {"name": VOC[index % len(VOC)], "bndbox": corners, "difficult": "0", "truncated": "0", "pose": "Left"}
    return {"annotation": {"filename": f"{index:06}.jpg", "size": size, "object": [thing]}}


VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

KINDS: dict[str, Kind] = {
    **{name: Kind((28, 28), 10, _tensors) for name in ("MNIST", "FashionMNIST", "KMNIST", "EMNIST")},
    "CIFAR10": Kind((32, 32, 3), 10, _arrays),
    "CIFAR100": Kind((32, 32, 3), 100, _arrays),
    "USPS": Kind((16, 16), 10, _arrays),
    "SEMEION": Kind((16, 16), 10, _labelled_arrays),
    "SVHN": Kind((3, 32, 32), 10, _labelled_arrays),
    "STL10": Kind((3, 96, 96), 10, _labelled_arrays),
    "ImageFolder": Kind((256, 256, 3), 10, _folder),
    "ImageNet": Kind((256, 256, 3), 1000, _folder),
    "CelebA": Kind((218, 178, 3), 10, _faces, _attributes),
    "LSUN": Kind((256, 256, 3), 10, _files, _class),
    "Caltech101": Kind((200, 300, 3), 101, _files, _class),
    "Caltech256": Kind((256, 256, 3), 257, _files, _class),
    "Country211": Kind((256, 256, 3), 211, _files, _class),
    "DTD": Kind((256, 256, 3), 47, _files, _class),
    "EuroSAT": Kind((64, 64, 3), 10, _files, _class),
    "FER2013": Kind((48, 48), 7, _files, _class),
    "FGVCAircraft": Kind((256, 256, 3), 100, _files, _class),
    "Flowers102": Kind((256, 256, 3), 102, _files, _class),
    "Food101": Kind((256, 256, 3), 101, _files, _class),
    "GTSRB": Kind((48, 48, 3), 43, _files, _class),
    "Imagenette": Kind((256, 256, 3), 10, _files, _class),
    "LFWPeople": Kind((250, 250, 3), 5749, _files, _class),
    "Omniglot": Kind((105, 105), 964, _files, _class),
    "OxfordIIITPet": Kind((256, 256, 3), 37, _files, _class),
    "PCAM": Kind((96, 96, 3), 2, _files, _class),
    "Places365": Kind((256, 256, 3), 365, _files, _class),
    "StanfordCars": Kind((256, 256, 3), 196, _files, _class),
    "SUN397": Kind((256, 256, 3), 397, _files, _class),
    "VOCSegmentation": Kind((375, 500, 3), 21, _files, _mask),
    "SBDataset": Kind((375, 500, 3), 21, _files, _mask),
    "VOCDetection": Kind((375, 500, 3), 20, _files, _annotation),
    "CocoDetection": Kind((480, 640, 3), 90, _files, _objects),
    "CocoCaptions": Kind((480, 640, 3), 90, _files, _captions),
}
"""By name of the class in `torchvision.datasets`. Images of varying size have one that is common."""
