"""What operators make of the dtypes of their operands, under autocast and without it, as tables. No analysis here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Policies:
    """The operators that autocast runs in half precision, in float32, and in the widest dtype of their operands."""

    half: frozenset[str]
    float32: frozenset[str]
    widest: frozenset[str]


def _policies(device: str) -> Policies:
    lists = _TABLE[device]
    return Policies(*(frozenset(lists[name]) for name in ("half", "float32", "widest")))


_TABLE = tomllib.loads(Path(__file__).with_name("autocast_ops.toml").read_text("utf-8"))
POLICIES = {device: _policies(device) for device in ("cuda", "cpu")}

COMPOSED = {"cross_entropy": "nll_loss", "gumbel_softmax": "softmax", "softmin": "softmax"}
"""Functions without a policy of their own, and the operator that their result comes from."""

KEEPING = {
    "T", "abs", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "alpha_dropout", "amax", "amin",
    "as_strided", "avg_pool1d", "avg_pool2d", "broadcast_to", "ceil", "celu", "chunk", "clone", "contiguous", "cpu",
    "cuda", "data", "detach", "diag", "diagonal", "dropout", "dropout2d", "elu", "expand", "expand_as", "flatten",
    "flip", "floor", "frac", "gather", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "index_select",
    "leaky_relu", "mT", "masked_fill", "masked_select", "max_pool1d", "max_pool2d", "max_pool3d", "mean", "mish",
    "movedim", "narrow", "neg", "negative", "numpy", "pad", "permute", "ravel", "relu", "relu6", "repeat",
    "repeat_interleave", "requires_grad_", "reshape", "reshape_as", "roll", "round", "select", "selu", "sigmoid",
    "sign", "silu", "sin", "cos", "split", "sqrt", "square", "squeeze", "std", "swapaxes", "swapdims", "t", "take",
    "take_along_dim", "tanh", "tile", "topk", "transpose", "tril", "triu", "trunc", "unbind", "unflatten", "unfold",
    "unsqueeze", "var", "view", "view_as",
}  # fmt: skip
"""Functions and methods of tensors whose result has the dtype of the first operand."""

MEETING = {
    "add", "cat", "clamp", "clamp_max", "clamp_min", "clip", "concat", "concatenate", "div", "divide", "fmax", "fmin",
    "fmod", "hstack", "lerp", "max", "maximum", "min", "minimum", "mul", "multiply", "remainder", "rsub", "stack",
    "sub", "subtract", "true_divide", "vstack", "where",
}  # fmt: skip
"""Those whose operands meet in one dtype."""

INDICES = {"max", "min", "sort", "topk", "median", "mode", "kthvalue", "cummax", "cummin"}
"""Those that give values, and their indices second."""

WHOLE = {
    "all", "any", "argmax", "argmin", "argsort", "bool", "bincount", "dim", "eq", "equal", "ge", "gt", "int",
    "isfinite", "isinf", "isnan", "item", "le", "len", "logical_and", "logical_not", "logical_or", "long", "lt",
    "ndimension", "ne", "nonzero", "numel", "one_hot", "randint", "randperm", "range", "searchsorted", "short", "size",
    "tolist",
    "tril_indices", "triu_indices",
}  # fmt: skip
"""What gives integers, booleans and numbers of Python."""

CREATING = {
    "zeros", "ones", "empty", "full", "rand", "randn", "eye", "linspace", "logspace", "arange", "FloatTensor",
    "DoubleTensor",
}  # fmt: skip
"""What makes a tensor of a dtype that autocast has no hand in."""

HANDING_ON = {"tensor", "Tensor", "as_tensor", "asarray", "from_numpy", "Variable", "Parameter", "Buffer"}
"""What makes a tensor of the dtype of what it is given."""

DRAWN_FROM = {"log_prob", "entropy", "sample", "rsample", "logits", "probs"}
"""What a distribution gives, of the dtype of its parameters."""

HOLDING = {"copy", "get", "items", "keys", "pop", "popleft", "values"}
"""Methods of containers that give what is in them."""

BUILTINS = {
    "dict",
    "enumerate",
    "iter",
    "list",
    "max",
    "min",
    "next",
    "reversed",
    "set",
    "sorted",
    "sum",
    "tuple",
    "zip",
}
"""Functions of Python that give what is in their arguments."""

FLOATS = {"torch.float", "torch.float32", "torch.float64", "torch.double", "torch.FloatTensor", "torch.DoubleTensor"}
HALVES = {"torch.half", "torch.float16", "torch.bfloat16", "torch.HalfTensor", "torch.BFloat16Tensor"}
"""Names of dtypes; all others of torch are of integers and booleans."""

MODULES = {
    **dict.fromkeys(("Linear", "LazyLinear"), "linear"),
    **{f"{lazy}Conv{n}d": f"conv{n}d" for n in (1, 2, 3) for lazy in ("", "Lazy")},
    **{f"{lazy}ConvTranspose{n}d": f"conv_transpose{n}d" for n in (1, 2, 3) for lazy in ("", "Lazy")},
    **dict.fromkeys(("Softmax", "Softmax2d", "Softmin"), "softmax"),
    **{f"{kind}Loss": f"{operator}_loss" for kind, operator in (
        ("CrossEntropy", "nll"), ("L1", "l1"), ("MSE", "mse"), ("NLL", "nll"), ("PoissonNLL", "poisson_nll"),
        ("SmoothL1", "smooth_l1"), ("SoftMargin", "soft_margin"),
    )},
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits", "CosineSimilarity": "cosine_similarity",
    "GroupNorm": "group_norm", "GRU": "gru_cell", "GRUCell": "gru_cell", "KLDivLoss": "kl_div",
    "LayerNorm": "layer_norm", "LogSoftmax": "log_softmax", "LSTM": "lstm_cell", "LSTMCell": "lstm_cell",
    "PReLU": "prelu", "Softplus": "softplus",
}  # fmt: skip
"""Modules of `torch.nn`, and the operator that their results come from."""

KEEPING_MODULES = {
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AlphaDropout", "AvgPool1d", "AvgPool2d",
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CELU", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "ELU",
    "Flatten", "GELU", "GLU", "Hardswish", "Hardtanh", "Identity", "InstanceNorm1d", "InstanceNorm2d", "LeakyReLU",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Tanh", "Unflatten",
    "ZeroPad2d",
}  # fmt: skip
"""Those whose result has the dtype of what they are given."""

STRICT = {
    "index_add": (2,), "index_add_": (2,), "index_copy": (2,), "index_copy_": (2,), "index_put": (1,),
    "index_put_": (1,), "scatter_": (2,), "scatter_add": (2,), "scatter_add_": (2,), "scatter_reduce_": (2,),
    "masked_scatter_": (1,), "lerp_": (0, 1), "addmm_": (0, 1), "baddbmm_": (0, 1), "addmv_": (0, 1), "addr_": (0, 1),
}  # fmt: skip
"""Methods that need the dtype of their tensor in these arguments too; autocast casts for none that ends in ``_``."""

PRODUCTS_IN_PLACE = {"addmm_", "addmv_", "addr_", "addbmm_", "baddbmm_"}
"""Matrix products that write into their first operand."""

STRICT_WORDS = {"source", "src", "value", "values", "end", "weight", "mat1", "mat2", "batch1", "batch2", "vec1", "vec2"}
"""Such arguments given by keyword."""
