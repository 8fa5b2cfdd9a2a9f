"""Reads the tensors of a PyTorch file in the format before 1.6, without PyTorch.

Such a file is a sequence of pickles (magic number, protocol, system, the object, the storages'
keys), followed by the raw storages. The unpickler accepts only the few names that a state dict
needs, so the file cannot run code.
"""

from __future__ import annotations

import pathlib
import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pomona._errors import ModelError

if TYPE_CHECKING:
    from typing import IO, Any

    from numpy.typing import NDArray

    from pomona._typing import PathLike

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}

# The errors of unpickling bytes that are not a pickle, or a damaged one.
_DAMAGE = (pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError)


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Accepts ordered dictionaries, tensors and storages, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # PyTorch passes more arguments, which concern gradients.
            return lambda *arguments: _Tensor(*arguments[: len(_Tensor._fields)])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ModelError(f"the file asks for {module}.{name}, which is not part of a state dict")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _count, view = pid
        if kind != "storage" or view is not None:
            raise ModelError("the file has storages of an unknown kind")
        return _Storage(key, dtype)


def read_state_dict(path: PathLike) -> dict[str, NDArray[Any]]:
    """Return the named tensors of a state dict.

    Raises a ModelError if the file has another format, is damaged or holds anything but tensors.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            if _unpickle(file) != MAGIC_NUMBER or _unpickle(file) != PROTOCOL:
                raise ModelError("the file is not a PyTorch file in the format before 1.6")
            system = _unpickle(file)
            if not system.get("little_endian", True):
                raise ModelError("the file was written on a big-endian machine")
            tensors = _unpickle(file)
            dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
            storages = {key: _read_storage(file, dtypes[key]) for key in _unpickle(file)}
            return {
                name: _view(tensor, storages[tensor.storage.key])
                for name, tensor in tensors.items()
            }
    except ModelError:
        raise
    except _DAMAGE as error:
        raise ModelError(f"the PyTorch file is damaged or cut short: {error}") from error


def _unpickle(file: IO[bytes]) -> Any:
    return _Unpickler(file).load()


def _read_storage(file: IO[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(_read(file, 8), "little")
    return np.frombuffer(_read(file, count * dtype.itemsize), dtype)


def _read(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError(f"expected {size} more bytes, got {len(data)}")
    return data


def _view(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    """Copy a tensor out of its storage, by its strides, which must not leave the storage."""
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches outside of its storage")
    itemsize = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, [stride * itemsize for stride in tensor.strides]
    )
    return np.array(view)
