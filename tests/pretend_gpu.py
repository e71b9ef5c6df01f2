"""Simulation of a GPU on a CPU, to detect tensors on the wrong device and synchronisation in steps.

Every tensor stays a CPU tensor, so results are those of a CPU to the bit; that it "lies on the GPU"
is noted of its storage. Operations on tensors of both devices raise an error as on CUDA,
``numpy()`` of a GPU tensor too, and transfers and scalars that the host asks for are counted by the
line that asked. What only a real device shows (speed, memory, kernels that differ, its own random
numbers) it does not show.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

MADE_OF_DATA = {"tensor", "as_tensor", "asarray", "new_tensor", "from_numpy"}
"""Functions whose results are not created by operations."""

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
COPYING = {"copy_", "copy", "_to_copy", "set_", "fill_"}
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_linalg_check_errors", "_unique2", "unique_dim"}


class PretendGpu:
    """Records tensors on the simulated GPU, and synchronisations with the host."""

    def __init__(self) -> None:
        self.storages: dict[int, StorageWeakRef] = {}
        self.waits: Counter[tuple[str, str]] = Counter()
        """Number of synchronisations, by operation and line of code."""

    def has(self, x: Any) -> bool:
        """Return whether a tensor or a storage is on the GPU."""
        if isinstance(x, Tensor):
            while torch._C._functorch.is_functorch_wrapped_tensor(x):
                x = torch._C._functorch.get_unwrapped(x)
            if not torch._C._has_storage(x):
                return False
            with torch._C.DisableTorchFunction():
                x = x.untyped_storage()
        kept = self.storages.get(getattr(x, "_untyped_storage", x)._cdata)
        return kept is not None and not kept.expired()

    def device_of(self, x: Tensor) -> torch.device:
        """Return the simulated device of a tensor; meta tensors keep their own."""
        real = torch._C.TensorBase.device.__get__(x)
        return CUDA if real == CPU and self.has(x) else real

    def put(self, x: Tensor | torch.UntypedStorage) -> Any:
        """Mark a tensor or a storage as being on the GPU."""
        storage = x
        if isinstance(x, Tensor):
            if torch._C.TensorBase.device.__get__(x) != CPU:
                return x
            with torch._C.DisableTorchFunction():
                storage = x.untyped_storage()
        storage = getattr(storage, "_untyped_storage", storage)
        if len(self.storages) > 20_000:
            self.storages = {key: ref for key, ref in self.storages.items() if not ref.expired()}
        self.storages[storage._cdata] = StorageWeakRef(storage)
        return x

    def count(self, what: str) -> None:
        """Count a synchronisation, by the innermost line outside torch."""
        frames = (f"{f.f_code.co_filename}:{line}" for f, line in traceback.walk_stack(sys._getframe(1)))
        outside = (frame for frame in frames if "/torch/" not in frame and __file__ not in frame and "<" not in frame)
        self.waits[what, next(outside, "?")] += 1


def find_tensors(tree: Any) -> list[Tensor]:
    """Return all tensors in nested lists, tuples and dictionaries; torch's pytree is too slow."""
    if isinstance(tree, Tensor):
        return [tree]
    if not isinstance(tree, list | tuple | dict):
        return []
    found = []
    for x in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(x, Tensor):
            found.append(x)
        elif isinstance(x, list | tuple | dict):
            found += find_tensors(x)
    return found


def _is_cuda(device: Any) -> bool:
    return torch.device(device).type == "cuda"


class _Calls(TorchFunctionMode):
    """Intercepts functions called from Python: transfers, new tensors, and access to values."""

    def __init__(self, gpu: PretendGpu) -> None:
        super().__init__()
        self.gpu = gpu
        self.forced: bool | None = None  # device of results, whatever the inputs
        self.ambient = False  # device of tensors created in C++

    @contextmanager
    def during(self, **state: bool | None) -> Iterator[None]:
        former = {name: getattr(self, name) for name in state}
        vars(self).update(state)
        try:
            yield
        finally:
            vars(self).update(former)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__"):
            return func(*args, **kwargs)
        if name in ("to", "cpu", "cuda"):
            return self._move(func, name, args, kwargs)
        given = find_tensors((args, kwargs))
        on = any(map(self.gpu.has, given))
        if on and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first. (pretended)")
        if on and name == "tolist":
            self.gpu.count(name)
        asked = None
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type in ("cpu", "cuda"):
            asked = _is_cuda(kwargs["device"])
            kwargs["device"] = CPU
        with self.during(forced=asked, ambient=on):
            result = func(*args, **kwargs)
        if name in MADE_OF_DATA or name == "__deepcopy__":
            goal = on if asked is None else asked
            if goal and isinstance(result, Tensor) and not self.gpu.has(result):
                result = self.gpu.put(result.clone() if name != "__deepcopy__" else result)
        return result

    def _move(self, func: Any, name: str, args: tuple, kwargs: dict) -> Tensor:
        x, rest = args[0], list(args[1:])
        was = self.gpu.has(x)
        goal = {"cpu": False, "cuda": True}.get(name, was)
        waits = not kwargs.get("non_blocking", False)
        if name == "to":
            place = next((i for i, a in enumerate(rest) if isinstance(a, str | torch.device | Tensor)), None)
            asked = rest[place] if place is not None else kwargs.get("device", kwargs.get("other"))
            if asked is not None:
                goal = self.gpu.has(asked) if isinstance(asked, Tensor) else _is_cuda(asked)
                if place is not None and not isinstance(asked, Tensor):
                    rest[place] = CPU
                elif "device" in kwargs:
                    kwargs["device"] = CPU
            with self.during(forced=was):
                result = func(x, *rest, **kwargs)
        else:
            result = x
        if goal == was:
            return result
        if waits:
            self.gpu.count(f"to {'cuda' if goal else 'cpu'}")
        with self.during(forced=goal):
            return result.clone()


class _Operations(TorchDispatchMode):
    """Intercepts every operation, also in backward passes: checks inputs and marks results."""

    def __init__(self, gpu: PretendGpu, calls: _Calls) -> None:
        super().__init__()
        self.gpu, self.calls = gpu, calls

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        given = find_tensors((args, kwargs))
        on = [x for x in given if self.gpu.has(x)]
        off = [x for x in given if not self.gpu.has(x)]
        if on and self.calls.forced is None:
            self._check(name, args, off)
        goal = bool(on) if given else self.calls.ambient
        goal = goal if self.calls.forced is None else self.calls.forced
        result = func(*args, **kwargs)
        if goal:
            theirs = {id(x) for x in off}
            for x in find_tensors(result):
                # Results that alias CPU inputs, such as a view of a scalar, stay on the CPU.
                if id(x) not in theirs and not self._shares(x, off):
                    self.gpu.put(x)
        return result

    @staticmethod
    def _shares(x: Tensor, others: list[Tensor]) -> bool:
        with torch._C.DisableTorchFunction():
            if not torch._C._has_storage(x):
                return True
            own = x.untyped_storage()._cdata
            return any(torch._C._has_storage(y) and y.untyped_storage()._cdata == own for y in others)

    def _check(self, name: str, args: tuple, off: list[Tensor]) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name in WAITING:
            self.gpu.count(name)
        if name in INDEXING:
            indices = find_tensors(args[1])
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                self.gpu.count("mask")
            elif not all(map(self.gpu.has, indices)):
                self.gpu.count("index on the CPU")
            wrong = first is not None and not self.gpu.has(first)
        elif name in COPYING:
            wrong = False
            if off and any(x.dim() for x in off):
                self.gpu.count(name)
        else:
            wrong = any(x.dim() > 0 for x in off)
        if wrong:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (pretended, in {name})"
            )


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """Make torch and Lightning detect one GPU within the block."""
    gpu = PretendGpu()
    calls = _Calls(gpu)
    operations = _Operations(gpu, calls)
    run_backward = torch.autograd.graph._engine_run_backward

    def backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        on = any(map(gpu.has, find_tensors(outputs)))
        with calls.during(forced=None, ambient=on):
            return run_backward(outputs, *args, **kwargs)

    parse = torch._C._nn._parse_to

    def parse_to(*args: Any, **kwargs: Any) -> Any:  # Module.to(tensor): C++ would see a CPU tensor
        device, *rest = parse(*args, **kwargs)
        return (CUDA if any(gpu.has(x) for x in args if isinstance(x, Tensor)) else device, *rest)

    def move_storage(storage: Any, location: str) -> Any:
        return gpu.put(storage) if location.startswith("cuda") else None

    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "pretended",
        "get_device_capability": lambda device=None: (7, 5),
        "get_device_properties": lambda device=None: SimpleNamespace(name="pretended", total_memory=2**34),
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "empty_cache": lambda: None,
        "_lazy_init": lambda: None,
    }
    registry = list(torch.serialization._package_registry)
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        # A CUDA build of torch would otherwise ask the driver, which a machine without a GPU lacks.
        stream = SimpleNamespace(is_capturing=lambda: False)
        stack.enter_context(patch.object(torch.accelerator, "current_stream", lambda device=None: stream))
        for module in (torch.autograd, torch.autograd.graph, torch._tensor.torch.autograd):
            if hasattr(module, "_engine_run_backward"):
                stack.enter_context(patch.object(module, "_engine_run_backward", backward))
        stack.enter_context(patch.object(torch._C._nn, "_parse_to", parse_to))
        for kernels in ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices"):
            # With foreach, optimisers would compute in another order than on a CPU.
            stack.enter_context(patch.object(torch.utils._foreach_utils, kernels, list))
        stack.enter_context(
            patch.object(Tensor, "device", property(lambda x: CUDA if gpu.has(x) else CPU), create=True)
        )
        stack.enter_context(patch.object(Tensor, "is_cuda", property(gpu.has), create=True))
        torch.serialization.register_package(0, lambda storage: "cuda:0" if gpu.has(storage) else None, move_storage)
        stack.callback(torch.serialization._package_registry.__setitem__, slice(None), registry)
        stack.enter_context(calls)
        stack.enter_context(operations)
        yield gpu
