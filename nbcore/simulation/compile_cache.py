"""Where compiled code is kept between processes, and which of it is still good.

numba keeps what it has compiled beside a stamp of one source file, that of the function which is
cached. Here the stamp is a digest of all that goes into the compiled code, and of nothing else: the
kernels, the laws that they call, and the constants of both. So an edited docstring, or a part of a
module that is never compiled, costs nobody half a minute, and copies of one version share a folder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import pkgutil
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from filelock import FileLock
from numba.core import caching, config

from nbcore.atomic import replacing
from nbcore.physics import compiled
from nbcore.simulation.resumption import code_version

__all__ = ["CompileCache", "Usage"]

UNUSED = 30 * 86400  # seconds after which the folder of another version goes
Constant = (bool, int, float, str, tuple, frozenset)


class Usage(NamedTuple):
    """What a cache takes.

    Attributes
    ----------
    kernels
        Compiled loops that this version can load.
    megabytes
        Of these.
    others
        Folders of other versions.
    other_megabytes
        Of those.
    """

    kernels: int
    megabytes: float
    others: int
    other_megabytes: float


class CompileCache:
    """Compiled code on disk.

    Parameters
    ----------
    root
        Folder of all versions; None takes nbcore/ in XDG_CACHE_HOME, or in ~/.cache.

    Attributes
    ----------
    folder
        Of this version of what is compiled.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.root = Path(base) / "nbcore" if root is None else Path(root)
        self.folder = self.root / f"engine-{self._key()}"

    def keep(self, function: Any) -> None:
        """Load what was compiled for a function of numba's, and keep what will be."""
        if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
        except OSError as error:
            warnings.warn(
                f"every process compiles the engine anew, because {self.folder} can't be used "
                f"({error}); set XDG_CACHE_HOME to a folder of yours",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self._drop_unused()
        _load_array_functions()
        function._cache = _cache_in(self.folder)(function.py_func)

    def keeps(self, function: Any) -> bool:
        """Whether what is compiled for a function is kept."""
        return isinstance(getattr(function, "_cache", None), caching.FunctionCache)

    def holds(self, function: Any, types: tuple[Any, ...]) -> bool:
        """Whether a function that it keeps is compiled for such types, here or on disk."""
        return types in function.overloads or types in self.signatures(function)

    def signatures(self, function: Any) -> list[tuple[Any, ...]]:
        """Types that a function on disk is compiled for, by this machine's compiler."""
        if not self.keeps(function):
            return []
        mine = function._cache._index_key((), function.targetctx.codegen())[1:]
        index = function._cache._cache_file._load_index()
        return [types for types, *others in index if tuple(others) == mine]

    def usage(self) -> Usage:
        """What it takes."""
        others = [path for path in self._folders() if path != self.folder]
        return Usage(
            len(list(self.folder.glob("*.nbc"))),
            _size(self.folder) / 1e6,
            len(others),
            sum(map(_size, others)) / 1e6,
        )

    def clear(self) -> None:
        """Drop all that was compiled, of this version and of others; it is compiled again."""
        for path in self._folders():
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.root / "keys", ignore_errors=True)

    def _folders(self) -> Iterator[Path]:
        return self.root.glob("engine-*")

    def _drop_unused(self) -> None:
        """Remove folders of versions that nobody has used for long."""
        for path in self._folders():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > UNUSED:
                    shutil.rmtree(path, ignore_errors=True)

    def _key(self) -> str:
        """Digest of what is compiled.

        To parse the sources takes a tenth of a second, so it is kept beside the digest of their
        bytes: of all of them, since constants come from everywhere.
        """
        known = self.root / "keys" / _digest(code_version().encode(), sys.version.encode())
        with suppress(OSError):
            return known.read_text()
        key = what_is_compiled()
        with suppress(OSError):
            known.parent.mkdir(parents=True, exist_ok=True)
            with replacing(known) as part:
                part.write_text(key)
        return key


def what_is_compiled() -> str:
    """Digest of the kernels, the laws that they call, their order, and the constants of both."""
    orders = [[f"{law.__module__}.{law.__qualname__}" for law in each] for each in compiled.ORDERS]
    parts = [repr(sorted(orders))]
    for module in _kernels():
        parts.append(_essence(ast.parse(inspect.getsource(module))))
        parts.append(_constants(vars(module), vars(module)))
    for law in sorted(compiled.LAWS, key=lambda law: (law.__module__, law.__qualname__)):
        parts.append(_essence(ast.parse(textwrap.dedent(inspect.getsource(law)))))
        parts.append(_constants(law.__code__.co_names, law.__globals__))
    return _digest(*(part.encode() for part in parts))


def _kernels() -> list[ModuleType]:
    """Modules of which all is compiled, and the words of the laws."""
    package = importlib.import_module(f"{__package__}.kernels")
    names = sorted(each.name for each in pkgutil.iter_modules(package.__path__))
    # All of them, since an engine may import its own after the key is made.
    own = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [*own, compiled]


def _essence(tree: ast.AST) -> str:
    """What of a source is compiled: no docstrings, no comments, no lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *_]:
                    del node.body[0]
    return ast.dump(tree)


def _constants(names: Iterable[str], holder: Mapping[str, Any]) -> str:
    """Those of the names that stand for a plain value there."""
    found = {name: holder[name] for name in names if isinstance(holder.get(name), Constant)}
    return repr(sorted((name, value) for name, value in found.items() if name[:2] != "__"))


def _load_array_functions() -> None:
    """Have numba load what it knows of arrays, without SciPy's linear algebra.

    It imports that, for a quarter of a second, to see whether it is there. No kernel uses it, and
    whoever does has it imported when it is compiled.
    """
    from numba.np import linalg

    def ensure_blas() -> None:
        if find_spec("scipy") is None:
            raise ImportError

    before, linalg.ensure_blas = linalg.ensure_blas, ensure_blas
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = before


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, which others may be changing."""
    total = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _cache_in(folder: Path) -> type[caching.FunctionCache]:
    """Numba's cache, in a folder that holds what is good and nothing else."""

    class Locator(caching._CacheLocator):
        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Locator:
            return cls()

        def get_cache_path(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            return str(folder)

        def get_source_stamp(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            return folder.name

        def get_disambiguator(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            return ""

    class Impl(caching.CompileResultCacheImpl):
        _locator_classes = [Locator]  # noqa: RUF012

    class Cache(caching.FunctionCache):
        _impl_class = Impl

        def save_overload(self, sig: Any, data: Any) -> None:
            # Of two processes that add to the index at once, one would lose what it compiled.
            with FileLock(folder / ".lock"):
                super().save_overload(sig, data)

    return Cache
