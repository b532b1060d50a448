"""The names of PyTorch that matter to mixed precision, as tables. No analysis here."""

from __future__ import annotations

OPTIMIZER_MODULES = ("torch.optim.", "apex.optimizers.", "bitsandbytes.optim.", "torch_optimizer.", "timm.optim.")
OPTIMIZER_BASES = {"torch.optim.Optimizer", "torch.optim.optimizer.Optimizer"}
OPTIMIZER_FACTORIES = {"timm.optim.create_optimizer", "timm.optim.create_optimizer_v2", "transformers.AdamW"}
CLOSURE_OPTIMIZERS = {"torch.optim.LBFGS", "torch.optim.lbfgs.LBFGS"}
FIRST_ORDER = {f"torch.optim.{name}" for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")}
"""Optimizers that call a closure exactly once, before they change anything."""
SCHEDULER_MODULES = ("torch.optim.lr_scheduler.",)
SCHEDULER_FACTORIES = ("transformers.", "diffusers.")
"""Libraries whose ``get_…schedule…`` functions make schedulers that move with every batch."""
PER_BATCH_SCHEDULERS = {"OneCycleLR", "CyclicLR"}
SKIP_TESTS = {"step_was_skipped", "optimizer_step_was_skipped", "found_inf", "_found_inf_per_device"}
"""What knows that a scaler has skipped a step, besides its scale."""
NOT_OPTIMIZERS = ("torch.optim.lr_scheduler", "torch.optim.swa_utils", "timm.optim.optim_factory")

MODULE_BASES = {"torch.nn.Module", "torch.nn.modules.Module", "torch.nn.modules.module.Module"}
MODULE_MODULES = ("torch.nn.", "torchvision.models.", "torch_geometric.nn.", "segmentation_models_pytorch.")
NOT_MODULES = ("torch.nn.utils.", "torch.nn.functional.", "torch.nn.init.", "torch.nn.Parameter", "torch.nn.parameter.")
MODULE_FUNCTIONS = ("torch.nn.", "torch_geometric.nn.")
"""Of those, where functions in small letters compute something; elsewhere they make a module, as `resnet18` does."""
MODULE_FACTORIES = {"timm.create_model", "torch.hub.load", "torchvision.models.get_model", "torch.jit.load"}
MODULE_WRAPPERS = {
    "torch.compile", "torch.jit.script", "torch.jit.trace", "copy.deepcopy", "copy.copy",
    "torch.nn.DataParallel", "torch.nn.parallel.DataParallel", "torch.nn.parallel.DistributedDataParallel",
    "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
}  # fmt: skip
SAME_OBJECT = {
    "to", "cuda", "cpu", "train", "eval", "double", "float", "half", "bfloat16", "requires_grad_", "share_memory",
    "apply",
}  # fmt: skip
"""Methods of a module that return the module itself."""

HOUSEKEEPING = SAME_OBJECT | {
    "parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules", "children",
    "named_children", "state_dict", "load_state_dict", "zero_grad", "no_sync", "add_module", "register_buffer",
    "register_parameter", "register_forward_hook", "register_forward_pre_hook", "get_parameter", "get_submodule",
    "save_pretrained", "gradient_checkpointing_enable", "compile", "reset_parameters", "init_weights", "extra_repr",
    "type", "print", "save", "load", "size", "summary", "append", "extend", "insert",
}  # fmt: skip
"""Methods of a module that run no forward."""

SETUP_PREFIXES = ("init", "reset", "set_", "save", "load", "zero_", "register_")
LOSS_SUFFIXES = ("Loss", "Criterion")
BCE_MODULES = {"torch.nn.BCELoss", "torch.nn.modules.loss.BCELoss", "torch.nn.modules.BCELoss"}
BCE_FUNCTIONS = {"torch.nn.functional.binary_cross_entropy", "torch.binary_cross_entropy"}
DISTRIBUTIONS = "torch.distributions."

TENSOR_METHODS = {
    "view", "view_as", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "expand",
    "mean", "sum", "pow", "exp", "log", "abs", "sqrt", "clamp", "float", "detach", "size", "shape", "dim", "mul",
    "add", "sub", "div", "norm", "sigmoid", "softmax", "log_softmax", "t", "T", "gather", "masked_select", "numel",
    "device", "dtype",
}  # fmt: skip

LOADERS = {"torch.utils.data.DataLoader", "torch_geometric.loader.DataLoader", "torch_geometric.data.DataLoader"}
DEVICES = {"torch.device", "torch.accelerator.current_accelerator"}
SCALERS = {
    "torch.amp.GradScaler", "torch.GradScaler", "torch.cuda.amp.GradScaler", "torch.cpu.amp.GradScaler",
    "torch.amp.grad_scaler.GradScaler", "torch.cuda.amp.grad_scaler.GradScaler",
}  # fmt: skip
LOSS_SCALERS = {
    f"timm.utils.{module}{name}" for module in ("", "cuda.") for name in ("NativeScaler", "ApexScaler")
}  # fmt: skip
"""Callable scalers of libraries: ``loss_scaler(loss, optimizer, …)`` does all of an iteration behind the loss."""

CLIPS = {
    f"torch.nn.utils.{name}"
    for name in ("clip_grad_norm_", "clip_grad_norm", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm")
} | {
    "torch.nn.utils.clip_grad.clip_grad_norm_", "torch.nn.utils.clip_grad.clip_grad_value_",
    "torch.nn.utils.clip_grad.clip_grad_norm", "timm.utils.dispatch_clip_grad",
    "timm.utils.clip_grad.dispatch_clip_grad", "timm.utils.adaptive_clip_grad",
}  # fmt: skip
CLIP_METHODS = {"clip_grad_norm_", "clip_grad_value_"}

PRODUCTS = {
    "mm", "bmm", "matmul", "addmm", "baddbmm", "addbmm", "einsum", "linear", "conv1d", "conv2d", "conv3d", "dot", "mv",
}  # fmt: skip
"""Operations that need equal dtypes, and that autocast casts only inside its regions."""

PRODUCT_METHODS = {"mm", "bmm", "matmul", "addmm", "baddbmm", "addbmm", "mv"}
"""Those of them that are methods of tensors."""

NOT_LINEAR = {"clamp", "clip", "sign", "norm"}
"""What a backward may do to gradients that does not commute with their scale."""

OVERFLOWING = {"masked_fill", "masked_fill_", "fill_", "fill_diagonal_", "where", "full_like", "clamp", "clamp_"}

SPARSE_PRODUCTS = {"torch.spmm", "torch.smm", "torch.sparse.mm", "torch.sparse.addmm"}
"""Functions that multiply a sparse matrix, and autocast may cast both."""

NO_HALF = SPARSE_PRODUCTS | {
    "torch.svd", "torch.inverse", "torch.pinverse", "torch.logdet", "torch.slogdet", "torch.det", "torch.cholesky",
    "torch.cholesky_solve", "torch.qr", "torch.lstsq", "torch.triangular_solve", "torch.histc", "torch.stft",
    "torch.istft", "torch.matrix_exp",
}  # fmt: skip
NO_HALF_MODULES = (
    "torch.fft.", "torch.linalg.inv", "torch.linalg.svd", "torch.linalg.qr", "torch.linalg.eig", "torch.linalg.det",
    "torch.linalg.slogdet", "torch.linalg.cholesky", "torch.linalg.solve", "torch.linalg.lstsq", "torch.linalg.pinv",
    "torch.linalg.matrix_exp",
)  # fmt: skip

CLOSED = {"labml.configs.BaseConfigs", "pydantic.BaseModel", "pydantic.main.BaseModel", "typing.NamedTuple"}
"""Classes of libraries whose objects take no attribute that their class does not declare."""

NORMS = {"torch.nn.functional.batch_norm", "torch.nn.functional.instance_norm", "torch.batch_norm"}

LARGEST_HALF = 65504.0
"""The largest finite float16."""

GRAD_SET = {"torch.set_grad_enabled", "torch.autograd.set_grad_enabled"}
NO_GRAD = {"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.inference_mode"}
AUTOGRAD_GRAD = {"torch.autograd.grad"}
AUTOGRAD_BACKWARD = {"torch.autograd.backward"}

FUNCTIONAL_TRAINING = (
    "higher", "functorch", "learn2learn.algorithms", "learn2learn.optim", "torch.func.grad", "torch.func.vjp",
    "torch.func.jvp", "torch.func.functional_call", "torch.func.grad_and_value", "torch.func.vmap",
)  # fmt: skip
TWO_PHASE_STEPS = {"first_step", "second_step", "ascent_step", "descent_step"}
GRADIENT_HOOKS = {
    "register_hook", "register_post_accumulate_grad_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook", "register_comm_hook",
}  # fmt: skip
DISTRIBUTED_BACKWARD = {"torch.distributed.autograd.backward"}
COLLECTIVE_MODULES = ("torch.distributed.", "horovod.torch.", "torch_xla.core.xla_model.")
FULLY_SHARDED = (
    "torch.distributed.fsdp",
    "torch.distributed._composable.fsdp",
    "torch.distributed.tensor",
    "deepspeed.initialize",
    "deepspeed.zero",
)

PRECISION = {
    "amp", "fp16", "fp32", "bf16", "float16", "float32", "bfloat16", "half", "mixed", "precision", "autocast", "scaler",
    "gradscaler", "dtype", "apex", "native", "fp", "bf", "bits", "16bit", "16", "32", "level", "mp",
}  # fmt: skip
"""Words in the names of what decides about precision."""
MIXED_FLAGS = {
    "amp", "use_amp", "enable_amp", "fp16", "use_fp16", "mixed_precision", "use_mixed_precision", "autocast",
    "use_autocast",
}  # fmt: skip
"""Options that ask for mixed precision.

Of ten scripts found for each of `--amp`, `--use_amp`, `--fp16`, `--use_fp16`, `--mixed_precision` and `--autocast`,
none means anything but half precision; where such an option is no yes or no, it names a dtype and is not looked at.
`--half` is not among them: of its ten, seven are for inference or export and one is half a year.
"""

REPORTS = ("logging.", "loguru.", "pprint.", "json.", "yaml.", "wandb.", "mlflow.", "rich.print", "torch.save")
REPORT_METHODS = {
    "info", "debug", "warning", "error", "critical", "log", "write", "add_text", "add_hparams", "log_hyperparams",
    "print_help", "set_postfix", "set_description",
}  # fmt: skip
"""What only prints, logs or stores what it is given."""

TO_ARRAY = {"numpy", "tolist"}
KEEPING = {"append", "extend", "add", "insert", "save", "imshow", "imsave", "add_image", "add_images", "add_embedding"}
ARRAY_LIBRARIES = ("numpy.", "sklearn.", "pandas.", "matplotlib.", "torchvision.utils.", "torch.save", "cv2.", "PIL.")
"""Where the results of a model become somebody else's numbers."""

OTHER_FRAMEWORKS = {"mxnet", "paddle", "mindspore", "jittor", "oneflow", "chainer", "megengine"}
"""Packages whose tensors go backward as those of PyTorch do."""
