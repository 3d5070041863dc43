"""Arrays by address, and records of arrays, as kernels see them: no owner is kept, no reference counted.

A record is a NamedTuple of arrays, numbers and further records. What a kernel does with all of its fields is written
down once here, whatever fields it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

from hierdraft.kernels import njit


@intrinsic
def _pointer(_context: Any, _address: Any) -> Any:
    """An integer as a pointer, for `carray`."""

    def generate(_typing: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        from numba.core import cgutils

        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@njit(nogil=True, inline="always")
def view(address: int, length: int) -> Any:
    """int32[length] at an address."""
    return carray(_pointer(address), (length,), dtype=np.int32)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def plane(address: int, rows: int, columns: int) -> Any:
    """int32[rows, columns] at an address."""
    return carray(_pointer(address), (rows, columns), dtype=np.int32)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def borrow(array: Any) -> Any:
    """The same memory without an owner: keeping reference counts would cost more than look-ups do."""
    return carray(_pointer(array.ctypes.data), array.shape, array.dtype)  # type: ignore[call-arg]


def borrow_record(record: Any) -> Any:
    """The same record, in kernels with every array of it borrowed; outside them nothing has to be."""
    return record


def slot_of(record: Any, slot: int) -> Any:
    """The record of one slot, of a record whose arrays have the slots before their own dimensions."""
    return type(record)(*(slot_of(part, slot) if isinstance(part, tuple) else part[slot] for part in record))


@overload(borrow_record)
def _borrow_record(record: Any) -> Any:
    return _mapped(record, "record: Any", "{}", "borrow({})")


@overload(slot_of)
def _slot_of(record: Any, slot: Any) -> Any:  # noqa: ARG001
    return _mapped(record, "record: Any, slot: Any", "{}[slot]", "borrow({})[slot]")


def _mapped(record: Any, arguments: str, number: str, array: str) -> Any:
    """A function of a record type, as numba describes it, that returns another record of the same kind."""
    names: dict[str, Any] = {"borrow": borrow}

    def written(kind: Any, path: str) -> str:
        if isinstance(kind, types.BaseNamedTuple):  # type: ignore[attr-defined]
            name = f"kind{len(names)}"
            names[name] = kind.instance_class
            inner = (written(of, f"{path}.{field}") for field, of in zip(kind.fields, kind.types, strict=True))
            return f"{name}({', '.join(inner)})"
        return (array if isinstance(kind, types.Array) else number).format(path)

    source = f"def function({arguments}):\n    return {written(record, 'record')}\n"
    exec(source, names)  # noqa: S102 - made of the field names of a type alone
    return names["function"]
