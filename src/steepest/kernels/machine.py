"""Assembly to machine code in this process, kept on disk so that the next process only loads it."""

import ctypes
import functools
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

_MAGIC = b"steepest machine code 2\n"
_DIGEST = 32
_engines: list[Any] = []  # an engine owns its machine code; functions outlive the optimizers that asked for them


@functools.cache
def function_address(assembly: str) -> int:
    """Return the address of `void stage(ptr)` compiled from this assembly.

    A cached object file is used if it is whole; whatever is wrong with the cache costs a compilation, never an error.
    """
    target = _target()
    key = _key(assembly)
    path = _cache_folder() / f"{key}.o"
    code = _read(path, key)
    if code is not None:
        address = _load(target, code)
        if address is not None:
            return address
    code = _compile(target, assembly)
    _write(path, _sealed(key, code))
    address = _load(target, code)
    if address is None:
        raise RuntimeError("llvmlite compiled a kernel and could not load it again")
    return address


@functools.cache
def _target() -> Any:
    """Return LLVM's description of this machine. Importing llvmlite takes 30 ms, so it waits for the first kernel."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, jit=True)


@functools.cache
def _features() -> str:
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_features().flatten()


@functools.cache
def _machine_key() -> str:
    import llvmlite
    import llvmlite.binding as llvm

    return f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {_features()}"


def _key(assembly: str) -> str:
    return hashlib.blake2b(f"{_machine_key()}\n{assembly}".encode(), digest_size=16).hexdigest()


def _compile(target: Any, assembly: str) -> bytes:
    import llvmlite.binding as llvm

    # 512-bit vectors are asked for by the types; this only keeps LLVM from halving them on processors that it thinks
    # clock down
    module = llvm.parse_assembly(assembly)
    module.verify()
    return target.emit_object(module)


def _load(target: Any, code: bytes) -> int | None:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    try:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address("stage")
    except (RuntimeError, OSError):
        return None
    _engines.append(engine)
    return address or None


def _cache_folder() -> Path:
    """Return where machine code is kept: $STEEPEST_CACHE, else the user's cache folder, else nowhere."""
    chosen = os.environ.get("STEEPEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):  # a user without home and name
        base = os.devnull
    return Path(base, "steepest")


def _read(path: Path, key: str) -> bytes | None:
    """Return the code in a cache file, or None if it is missing, damaged or another user's."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None  # a pipe would be waited for
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            return None  # whoever can write here can run code as this user
        content = path.read_bytes()
    except OSError:
        return None
    code = content[len(_MAGIC) + _DIGEST :]
    return code if content == _sealed(key, code) else None


def _sealed(key: str, code: bytes) -> bytes:
    """Return what is kept of a kernel: a digest that is right for this code under this key only, and the code."""
    return _MAGIC + hashlib.blake2b(code, key=key.encode(), digest_size=_DIGEST).digest() + code


def _write(path: Path, content: bytes) -> None:
    """Put the file in place whole, or not at all."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return


STAGE_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def has(feature: str) -> bool:
    """Whether the CPU has a feature, in LLVM's spelling, such as "avx512f"."""
    return f"+{feature}" in _features().split(",")
