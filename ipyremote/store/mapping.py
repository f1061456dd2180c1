"""Mappings of whole files that keep no file descriptor, and copies into mappings that let other threads run.

An `mmap.mmap` object duplicates the descriptor for as long as it lives, so a reader of a thousand objects would hit the
usual limit of 1,024 descriptors. Python 3.13 can do without the duplicate (`trackfd`). For older versions the mapping
is made of anonymous memory, which needs no descriptor, and the file is then mapped over that memory: the `mmap` object
owns the address range and unmaps it at its own end, whatever is mapped there. This works on Linux only; on other
systems the duplicate stays.

Mappings must be `mmap` objects, because a weak reference to an `mmap` object tells when the last array on it has died.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from typing import Final

__all__ = ["copy_into", "map_file"]

_POPULATE: Final[int] = getattr(mmap, "MAP_POPULATE", 0)
_MAP_FIXED: Final = 0x10
_PyBUF_SIMPLE: Final = 0
#: Size of a copy from which letting go of the interpreter's lock pays, in bytes.
_LARGE: Final = 1 << 20
#: Address ranges that a failed system call may have left without a mapping. They are never unmapped, because another
#: thread may have mapped something else there by now.
_abandoned: list[mmap.mmap] = []


class _Buffer(ctypes.Structure):
    """CPython's `Py_buffer`."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def map_file(fd: int, size: int, *, writable: bool, populate: bool = False) -> mmap.mmap:
    """Map `size` bytes from the start of a file as shared memory. `fd` may be closed afterwards.

    `populate`: find the pages now, and not at the first access to each page. The file must have at least `size` bytes
    with allocated memory; otherwise an access ends the process with SIGBUS.
    """
    protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    flags = mmap.MAP_SHARED | (_POPULATE if populate else 0)
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, flags=flags, prot=protection, trackfd=False)
    if sys.platform != "linux":
        return mmap.mmap(fd, size, flags=flags, prot=protection)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=protection)
    address = _address(mapping)
    if _libc_mmap(address, size, protection, flags | _MAP_FIXED, fd, 0) != address:
        _abandoned.append(mapping)
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return mapping


def copy_into(mapping: mmap.mmap, offset: int, part: memoryview) -> None:
    """Copy contiguous bytes to `offset` of a writable mapping of this process.

    A large part is copied by the C library, which is faster and runs without the interpreter's lock.
    """
    size = part.nbytes
    if offset + size > len(mapping):
        raise ValueError(f"{size} bytes at {offset} do not fit into a mapping of {len(mapping)}")
    if size < _LARGE:
        mapping[offset : offset + size] = part
    else:
        ctypes.memmove(_address(mapping) + offset, _address(part), size)


def _address(exporter: mmap.mmap | memoryview) -> int:
    """Return the address of an exporter's memory. The caller must keep the exporter alive."""
    view = _Buffer()
    _get_buffer(exporter, ctypes.byref(view), _PyBUF_SIMPLE)
    address: int = view.buf
    _release_buffer(ctypes.byref(view))
    return address


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
if sys.platform == "linux" and sys.version_info < (3, 13):
    _libc_mmap = ctypes.CDLL(None, use_errno=True).mmap
    _libc_mmap.restype = ctypes.c_void_p
    _libc_mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
