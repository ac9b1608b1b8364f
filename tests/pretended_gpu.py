"""A GPU for machines that have none: tensors in ordinary memory that say `cuda:0`, and may not meet those of the CPU.

What is computed is computed on the CPU. Which tensors count as the GPU's is a matter of their storages, so views,
gradients, and what `vmap` and `grad` wrap need no thought. Two modes of PyTorch's keep the books: below autograd every
operation is checked by PyTorch's own rules and its results are entered; above it `.device` is answered, and what moves
tensors or makes them is told from what computes.

Rules (`native_functions.yaml`, which PyTorch ships): where an operation checks its devices, all tensors must be on the
same; where it leaves that to TensorIterator, a CPU tensor of no dimension is taken as a number, unless it is what is
written to; indices may lie on the CPU; copies go anywhere.

What this cannot show: what is fast, CUDA graphs that cannot be captured, kernels that a GPU lacks, numbers that differ,
and faults inside a `backward` written in Python, of which only the operations are seen.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from importlib.resources import files
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_AUTOCAST = torch.autocast
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)

_COPIES = {"copy_", "_to_copy", "_foreach_copy_", "_copy_from"}
_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
_STRICT = {"equal", "cat", "stack", "index_select", "gather", "scatter", "scatter_", "index_add", "index_add_"}
"""Strict in their kernels, whatever the table says."""

_ANSWERED = {"cpu", "cuda", "to", "pin_memory", "get_device", "numpy", "__array__", "__deepcopy__", "__reduce_ex__"}
"""Methods of tensors that a GPU answers otherwise, by methods of the mode named alike."""


class DeviceError(RuntimeError):
    """What a GPU would have refused."""


class Generator(torch._C.Generator):
    """A generator that says where it was made for.

    Args:
        device: whose numbers it draws.
    """

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls)

    def __init__(self, device: Any = "cpu") -> None:
        self._where = _named(device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """As it was made for."""
        return self._where


@cache
def _lenient() -> frozenset[str]:
    """Operations that leave the check to TensorIterator, by name with overload."""
    text = files("torchgen").joinpath("packaged/ATen/native/native_functions.yaml").read_text()
    entries = re.split(r"^- func: ", text, flags=re.MULTILINE)[1:]
    return frozenset(entry.split("(", 1)[0] for entry in entries if "device_check: NoCheck" in entry)


def _named(device: Any) -> torch.device:
    """A device as tensors say it."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return GPU if device.type == "cuda" else device


def _bare(tensor: Tensor) -> Tensor:
    """Without what function transforms put around it."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors among arguments or results."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


class _Books:
    """Which storages count as the GPU's."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}
        self.makers: list[torch.device] = []
        """Where what a function under way makes from nothing is to lie, innermost last."""
        self.setting = False
        """Whether a function under way sets items."""

    def device(self, tensor: Tensor) -> torch.device:
        """Where a tensor counts as lying."""
        bare = _bare(tensor)
        if bare.device.type != "cpu" or bare.layout != torch.strided:
            return bare.device
        return GPU if bare.untyped_storage()._cdata in self._storages else CPU

    def enter(self, tensor: Tensor, device: torch.device) -> None:
        """Let a tensor's storage lie somewhere from now on."""
        bare = _bare(tensor)
        if bare.device.type != "cpu" or bare.layout != torch.strided:
            return
        storage = bare.untyped_storage()
        if device == GPU:
            # While a weak reference is held, no other storage can have this one's address.
            self._storages.setdefault(storage._cdata, StorageWeakRef(storage))
            if len(self._storages) % 20_000 == 0:
                self._storages = {key: kept for key, kept in self._storages.items() if not kept.expired()}
        else:
            self._storages.pop(storage._cdata, None)

    def common(self, values: Any) -> torch.device:
        """The GPU where any of the tensors lies there."""
        return GPU if any(self.device(tensor) == GPU for tensor in _tensors(values)) else CPU


_BOOKS = _Books()
"""Of the process: what modules remember, such as constants by device, outlives a pretense."""


class _Move(torch.autograd.Function):
    """A copy elsewhere; its gradient comes back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, books: _Books, device: torch.device) -> Tensor:  # type: ignore[override]
        return _moved(tensor, books, device)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensor, context.books, _ = inputs
        context.origin = context.books.device(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return _moved(gradient, context.books, context.origin), None, None


def _moved(tensor: Tensor, books: _Books, device: torch.device) -> Tensor:
    copied = tensor.clone()
    books.enter(copied, device)
    return copied


class _Checks(TorchDispatchMode):
    """Below autograd: what meets, and where the results lie."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # which would take ten seconds to import

    def __init__(self, books: _Books) -> None:
        super().__init__()
        self.books = books

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():  # type: ignore[attr-defined]
            given = [(tensor, self.books.device(tensor)) for tensor in _tensors((args, kwargs))]
            self._check(func, args, kwargs, given)
            results = func(*args, **kwargs)
            if func._schema.name == "aten::copy_":
                return results
            if given:
                device = GPU if any(place == GPU for _, place in given) else CPU
            else:
                device = self.books.makers[-1] if self.books.makers else CPU
            if device == GPU:
                for tensor in _tensors(results):
                    self.books.enter(tensor, GPU)
        return results

    def _check(
        self, func: Any, args: Any, kwargs: Mapping[str, Any], given: Sequence[tuple[Tensor, torch.device]]
    ) -> None:
        books, name = self.books, func._schema.name.removeprefix("aten::")
        places = {place.type for _, place in given}
        if len(places) < 2 or name in _COPIES or "meta" in places:
            return
        if name in _INDEXING or (name == "index_fill_" and books.setting):
            own, at = books.device(args[0]), 2 if name == "index_fill_" else 1
            if own == CPU and any(books.device(index) == GPU for index in _tensors(args[at])):
                raise DeviceError(
                    f"{name}: indices should be either on cpu or on the same device as the indexed tensor"
                )
            given = [(tensor, books.device(tensor)) for tensor in _tensors((args[0], args[at + 1 :]))]
        elif name in _STRICT or func.name().removeprefix("aten::") not in _lenient():
            raise DeviceError(_refusal(func, given))
        named = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        written = {id(named.get(argument.name)) for argument in func._schema.arguments if argument.is_write}
        if len({place for tensor, place in given if tensor.ndim or place == GPU or id(tensor) in written}) > 1:
            raise DeviceError(_refusal(func, given))


def _refusal(func: Any, given: Sequence[tuple[Tensor, torch.device]]) -> str:
    tensors = ", ".join(f"{place}{list(tensor.shape)}" for tensor, place in given)
    return f"Expected all tensors to be on the same device, but found {tensors} in {func}"


class _Answers(TorchFunctionMode):
    """Above autograd: what tensors say about themselves, and what makes and moves them."""

    def __init__(self, books: _Books) -> None:
        super().__init__()
        self.books = books

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        owner, name = getattr(func, "__self__", None), getattr(func, "__name__", "")
        if name == "__get__":
            if owner is Tensor.device:
                return self.books.device(args[0])
            if owner is Tensor.is_cuda:
                return self.books.device(args[0]) == GPU
            if owner is Tensor.is_cpu:
                return self.books.device(args[0]) == CPU
            return func(*args, **kwargs)
        handler = getattr(self, f"_{name.strip('_')}", None) if name in _ANSWERED else None
        if handler is not None and args and isinstance(args[0], Tensor):
            return handler(func, *args, **kwargs)
        if name == "as_tensor" and isinstance(args[0], Tensor):
            return self._to(Tensor.to, *args, **kwargs)
        return self._make(func, name, args, kwargs)

    def _make(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        books = self.books
        asked = kwargs.get("device")
        target = books.common((args, kwargs)) if asked is None else _named(asked)
        if asked is not None and target == GPU:
            kwargs["device"] = CPU
        for generator in (value for value in (*args, *kwargs.values()) if isinstance(value, torch._C.Generator)):
            if generator.device.type != target.type:
                raise DeviceError(
                    f"{name}: Expected a '{target.type}' device type for generator but found '{generator.device.type}'"
                )
        books.makers.append(target)
        before, books.setting = books.setting, name == "__setitem__"
        try:
            results = func(*args, **kwargs)
        finally:
            books.makers.pop()
            books.setting = before
        if (asked is not None and name != "backward") or name in ("tensor", "new_tensor"):
            for tensor in _tensors(results):
                books.enter(tensor, target)
        return results

    def _move(self, tensor: Tensor, device: torch.device) -> Tensor:
        if device.type == "meta":
            return tensor.to(device)
        if self.books.device(tensor) == device:
            return tensor
        if tensor.requires_grad and torch.is_grad_enabled():
            return _Move.apply(tensor, self.books, device)  # type: ignore[no-any-return, no-untyped-call]
        return _moved(tensor, self.books, device)

    def _cpu(self, func: Any, tensor: Tensor, **kwargs: Any) -> Tensor:
        return self._move(tensor, CPU)

    def _cuda(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._move(tensor, GPU)

    def _to(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rest = list(args)
        device: torch.device | None = None
        asked = kwargs.pop("device", None)
        if rest and isinstance(rest[0], (str, int, torch.device)):
            asked = rest.pop(0)
        elif rest and isinstance(rest[0], Tensor):
            kwargs["other"] = rest.pop(0)
        device = None if asked is None else _named(asked)
        if rest and rest[0] is None:
            rest.pop(0)
        if rest and isinstance(rest[0], torch.dtype):
            kwargs["dtype"] = rest.pop(0)
        kwargs |= zip(("non_blocking", "copy"), rest, strict=False)
        if isinstance(kwargs.get("other"), Tensor):
            other = kwargs.pop("other")
            device, kwargs["dtype"] = self.books.device(other), other.dtype
        origin = self.books.device(tensor)
        converted = func(tensor, **kwargs) if kwargs else tensor
        if "meta" in (origin.type, (device or origin).type):
            return converted if device is None else converted.to(device)
        return converted if device is None else self._move(converted, device)

    def _pin_memory(self, func: Any, tensor: Tensor, *args: Any) -> Tensor:
        if self.books.device(tensor) == GPU:
            raise DeviceError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        return tensor

    def _get_device(self, func: Any, tensor: Tensor) -> int:
        return 0 if self.books.device(tensor) == GPU else -1

    def _numpy(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.books.device(tensor) == GPU and not kwargs.get("force"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return func(tensor, *args, **kwargs)

    _array = _numpy

    def _deepcopy(self, func: Any, tensor: Tensor, *args: Any) -> Tensor:
        copied: Tensor = func(tensor, *args)
        self.books.enter(copied, self.books.device(tensor))
        return copied

    def _reduce_ex(self, func: Any, tensor: Tensor, *args: Any) -> Any:
        if self.books.device(tensor) == GPU:
            raise DeviceError("a tensor of the GPU is pickled: who reads it may have none")
        return func(tensor, *args)


class _Stream:
    """A queue of work, which is done as it comes."""

    def __init__(self, *told: Any) -> None:
        pass

    def wait_stream(self, stream: "_Stream") -> None:
        """There is nothing to wait for."""


class _Capture:
    """Captures nothing: whoever asks must launch one operation after the other, as where a model cannot be captured."""

    def __init__(self, *told: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> None:
        raise RuntimeError("a pretended GPU captures no graphs")

    def __exit__(self, *told: Any) -> None:
        pass


def _autocast(device_type: str, *told: Any, **options: Any) -> torch.autocast:
    """The CPU's, which computes for the GPU here."""
    return _AUTOCAST("cpu" if device_type == "cuda" else device_type, *told, **options)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """While this lasts there is a GPU, as far as this thread can see.

    Returns:
        Its device.
    """
    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *args: "pretended",
        "synchronize": lambda *args: None,
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda *args: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *args: None,
        "mem_get_info": lambda *args: (2**33, 2**34),
        "memory_reserved": lambda *args: 0,
        "memory_allocated": lambda *args: 0,
        "device": lambda *args: nullcontext(),
        "stream": lambda *args: nullcontext(),
        "current_stream": _Stream,
        "Stream": _Stream,
        "graph_pool_handle": lambda: (0, 0),
        "graph": _Capture,
        "CUDAGraph": object,
    }
    with ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            stack.enter_context(patch.object(torch.optim.Optimizer, check, lambda optimizer: None, create=True))
        stack.enter_context(patch.object(torch, "autocast", _autocast))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.object(torch, "compile", lambda function, **options: function))
        stack.enter_context(_Answers(_BOOKS))
        stack.enter_context(_Checks(_BOOKS))
        yield GPU
