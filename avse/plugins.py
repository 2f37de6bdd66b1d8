"""The registry: `@register(kind, name)`, and the names `avse.plugins.<kind>.<name>` that recipes use.

A plugin comes from the package itself (one folder a kind, imported only when something of that kind is asked for),
from a file or folder given to `load_path` (`--plugins PATH`, recipe key `plugins:`), or from an installed distribution
with an entry point in the group `avse.plugins`. What goes wrong with one plugin is kept in `problems()` with its
place and never stops the others.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import keyword
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from avse import compatibility
from avse.errors import AvseError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

KINDS = {
    "mouth_tracker": "avse.mouth_trackers",
    "visual_frontend": "avse.visual_frontends",
    "fusion": "avse.fusion",
    "prior": "avse.priors",
    "sde": "avse.sdes",
    "sampler": "avse.samplers",
    "noise_model": "avse.noise_models",
    "inference": "avse.inference",
    "enhancer": "avse.enhancers",
    "embedding": "avse.embeddings",
    "corruption": "avse.corruptions",
    "dataset": "avse.datasets",
    "metric": "avse.metrics",
}
ENTRY_POINT_GROUP = "avse.plugins"
T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Problem:
    """Something wrong with a plugin.

    Arguments
    ---------
    subject : str
        `kind/name` of the plugin, or the module that does not import.
    place : str
        `file:line`.
    reason : str
        What is wrong and what to do.
    """

    subject: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.subject}: {self.reason}"


@dataclass(frozen=True)
class _Entry:
    cls: type
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


_REGISTRY: dict[str, dict[str, _Entry]] = {kind: {} for kind in KINDS}
_PROBLEMS: list[Problem] = []
_TRIED: set[str] = set()  # modules and entry points that were imported, or failed to
_LOADED_FILES: dict[Path, tuple[int, int]] = {}  # time and size of files when `load_path` ran them


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator: make a class known as plugin `name` of `kind`.

    The first plugin of a name stays. A class that is no plugin of its kind, or misses one of its methods, is not
    registered; `problems()` says so.

    Arguments
    ---------
    kind : str
        One of `KINDS`.
    name : str
        As a recipe writes it; a Python identifier.

    Example
    -------
    >>> from avse.contracts.metric import Metric
    >>> @register("metric", "example_peak")
    ... class Peak(Metric):
    ...     '''Largest absolute sample of the estimate.'''
    ...     name = "peak"
    ...     def __call__(self, estimate, clean, noisy):
    ...         return float(abs(estimate).max())
    >>> get("metric", "example_peak") is Peak
    True
    >>> forget("metric", "example_peak")
    """
    frame = sys._getframe(1)
    file, line = frame.f_code.co_filename, frame.f_lineno

    def decorate(cls: T) -> T:
        cls.plugin_kind, cls.plugin_name = kind, name  # type: ignore[attr-defined]
        entry = _Entry(cls, file, line)
        if kind in KINDS and not cls.__module__.startswith(f"{KINDS[kind]}."):
            _import_package(kind)  # the toolkit's own plugins come first, whatever is imported first
        reason = _why_not(kind, name, entry)
        if reason:
            _PROBLEMS.append(Problem(f"{kind}/{name}", entry.place, reason))
        else:
            _REGISTRY[kind][name] = entry
        return cls

    return decorate


def get(kind: str, name: str) -> type[Any]:
    """The class registered as `kind`/`name`.

    Raises
    ------
    AvseError
        If there is none: names the nearest, all there are, and what went wrong with a plugin of that name.
    """
    _known_kind(kind)
    if new := compatibility.PLUGINS.get(kind, {}).get(name):
        compatibility.warn(name, new)
        name = new
    if name not in _REGISTRY[kind] and name.isidentifier():
        # Most plugins live in a file of their name: no need to import the others.
        _import_package(kind, f".{name}")
    if name not in _REGISTRY[kind]:
        _import_package(kind)
        _import_entry_points()
    if name in _REGISTRY[kind]:
        return _REGISTRY[kind][name].cls
    message = unknown(f"{kind} plugin", name, _REGISTRY[kind]) + " For one of your own: --plugins FILE_OR_FOLDER."
    for problem in _PROBLEMS:
        # A module's file is mostly called like its plugin.
        if problem.subject == f"{kind}/{name}" or name == Path(problem.place.rpartition(":")[0]).stem:
            message += f"\nA plugin of that name was found but cannot be used: {problem}"
    raise AvseError(message)


def names(kind: str) -> list[str]:
    """All names of a kind, sorted; imports every module of the kind.

    Example
    -------
    >>> "si_sdr" in names("metric")
    True
    """
    _known_kind(kind)
    _import_package(kind)
    _import_entry_points()
    return sorted(_REGISTRY[kind])


def place(kind: str, name: str) -> str:
    """`file:line` of a plugin."""
    get(kind, name)
    return _REGISTRY[kind][name].place


def contract(kind: str) -> type[Any]:
    """The abstract class of a kind.

    Example
    -------
    >>> contract("noise_model").__name__
    'NoiseModel'
    """
    _known_kind(kind)
    module = importlib.import_module(f"avse.contracts.{kind}")
    return getattr(module, "".join(word.capitalize() for word in kind.split("_")))


def problems() -> list[Problem]:
    """What went wrong with plugins so far."""
    return list(_PROBLEMS)


def load_path(path: str | Path) -> list[Problem]:
    """Import plugins from a Python file, or from every Python file and package of a folder.

    Files of a folder may import each other with `from .other import ...`. A file that was loaded before is loaded again
    only if it changed.

    Arguments
    ---------
    path : path
        Names that begin with `_`, `.` or `test_`, and `setup.py` and `conftest.py`, are passed over in a folder.

    Returns
    -------
    list of Problem
        What went wrong with plugins of this path.

    Raises
    ------
    AvseError
        If there is no such file or folder, or nothing in it to import.
    """
    path = Path(path).expanduser().resolve()
    files = [path]
    if not path.is_dir() and not (path.is_file() and path.suffix == ".py"):
        what = "is not a Python file" if path.exists() else "no such file or folder"
        raise AvseError(f"{path}: {what}. Plugins are loaded from a .py file or a folder of them.")
    if path.is_dir() and not (path / "__init__.py").is_file():
        files = sorted(filter(_is_plugin_file, path.iterdir()))
    if not files:
        raise AvseError(f"{path}: holds no Python file to load plugins from.")
    for file in files:
        _load_file(file)
    return [problem for problem in _PROBLEMS if _inside(problem.place.rpartition(":")[0], files)]


def loaded_files() -> list[Path]:
    """What `load_path` has loaded, for other processes to load as well."""
    return list(_LOADED_FILES)


def of_path(path: str | Path) -> list[tuple[str, str]]:
    """Kind and name of the plugins that stand in a file or below a folder."""
    path = Path(path).expanduser().resolve()
    return [(kind, n) for kind, found in _REGISTRY.items() for n, entry in found.items() if _inside(entry.file, [path])]


def forget(kind: str, name: str) -> None:
    """Take a plugin out of the registry (for tests and notebooks)."""
    _REGISTRY[kind].pop(name, None)


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """Message for a name that is not among the valid ones: the nearest first, then all.

    Example
    -------
    >>> print(unknown("fusion plugin", "cancat", ["film", "concat"]))
    There is no fusion plugin 'cancat'. Did you mean 'concat'? Valid: concat, film.
    """
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=2, cutoff=0.55)
    if not near:
        near = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.55)
    guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"There is no {what} {name!r}.{guess} Valid: {', '.join(valid) or '(none)'}."


def _why_not(kind: str, name: str, entry: _Entry) -> str:
    """Why a class cannot be registered; empty if it can."""
    if kind not in KINDS:
        return unknown("kind of plugin", kind, KINDS)
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        return f"the name {name!r} cannot be written in a recipe; use letters, digits and underscores."
    base = contract(kind)
    if not (isinstance(entry.cls, type) and issubclass(entry.cls, base)):
        return f"{entry.cls.__name__} is not a subclass of {base.__module__}.{base.__name__}."
    missing = sorted(n for n in dir(entry.cls) if getattr(getattr(entry.cls, n, None), "__isabstractmethod__", False))
    if missing:
        plural = "s" if len(missing) > 1 else ""
        own = [n for n in dir(entry.cls) if not hasattr(base, n) and callable(getattr(entry.cls, n, None))]
        near = [n for name in missing for n in difflib.get_close_matches(name, own, n=1, cutoff=0.6)]
        has = f" (it has {', '.join(dict.fromkeys(near))})" if near else ""
        return f"{entry.cls.__name__} misses the method{plural} {', '.join(missing)} of {base.__name__}{has}."
    first = _REGISTRY[kind].get(name)
    if first is not None and (first.file, first.cls.__qualname__) != (entry.file, entry.cls.__qualname__):
        return f"the name is taken by {first.place}, which stays. Choose another name."
    return ""


def _known_kind(kind: str) -> None:
    if kind not in KINDS:
        raise AvseError(unknown("kind of plugin", kind, KINDS))


def _import_package(kind: str, ending: str = "") -> None:
    """Import the modules of a kind once, those of such an ending; keep what goes wrong."""
    for module in _modules(kind):
        if module.endswith(ending) and module not in _TRIED and module not in sys.modules:
            _TRIED.add(module)
            _guarded(module, partial(importlib.import_module, module), module)


@functools.cache
def _modules(kind: str) -> list[str]:
    """Modules of a kind in the package, those of its families included; found without importing them."""
    folder = Path(__file__).parent / KINDS[kind].rpartition(".")[2]
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.py") if path.stem != "__init__")
    return [".".join([KINDS[kind], *path.with_suffix("").parts]) for path in files]


@functools.lru_cache(maxsize=4)
def _entry_points(search_path: tuple[str, ...]) -> list[EntryPoint]:
    from importlib import metadata

    return list(metadata.entry_points(group=ENTRY_POINT_GROUP))


def _import_entry_points() -> None:
    for point in _entry_points(tuple(sys.path)):
        owner = point.dist.name if point.dist else "?"
        subject = f"entry point {point.name} = {point.value} of {owner}"
        if subject not in _TRIED:
            _TRIED.add(subject)
            _guarded(subject, point.load, point.module)


def _guarded(subject: str, load: Callable[[], object], module: str) -> None:
    """Run an import; on failure note its place and take out what it had registered."""
    try:
        load()
    except (Exception, SystemExit) as error:
        _PROBLEMS.append(Problem(subject, _place_of(error, module), f"cannot be imported: {_reason_of(error)}"))
        _forget_module(module)


def _load_file(path: Path) -> None:
    """Run a plugin file (or a package) as a module of a package that stands for its folder."""
    stamp = _stamp(path)
    if _LOADED_FILES.get(path) == stamp:
        return
    package = f"avse_plugins_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        folder = ModuleType(package, f"Plugins in {path.parent}")
        folder.__path__ = [str(path.parent)]
        sys.modules[package] = folder
    module = f"{package}.{path.stem}"
    if path in _LOADED_FILES:
        _PROBLEMS[:] = [p for p in _PROBLEMS if not _inside(p.place.rpartition(":")[0], [path])]
        _forget_module(module)
    _LOADED_FILES[path] = stamp
    importlib.invalidate_caches()
    _guarded(path.name, partial(importlib.import_module, module), module)
    if path.is_dir() and module in sys.modules:
        for part in pkgutil.iter_modules([str(path)], f"{module}."):
            _guarded(f"{path.name}.{part.name}", partial(importlib.import_module, part.name), part.name)


def _stamp(path: Path) -> tuple[int, int]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    status = [file.stat() for file in files]
    return max(s.st_mtime_ns for s in status), sum(s.st_size for s in status)


def _is_plugin_file(path: Path) -> bool:
    if path.name.startswith(("_", ".", "test_")) or path.name in ("setup.py", "conftest.py"):
        return False
    return (path / "__init__.py").is_file() if path.is_dir() else path.suffix == ".py"


def _inside(file: str, paths: Iterable[Path]) -> bool:
    return any(Path(file) == path or path in Path(file).parents for path in paths)


def _forget_module(module: str) -> None:
    for plugins in _REGISTRY.values():
        for name in [n for n, e in plugins.items() if f"{e.cls.__module__}.".startswith(f"{module}.")]:
            del plugins[name]
    for name in [n for n in sys.modules if f"{n}.".startswith(f"{module}.")]:
        del sys.modules[name]


def _place_of(error: BaseException, module: str) -> str:
    """Where a module failed: the deepest line of its own file, or of any file that is not the import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    tail = module.replace(".", "/")
    own = [f for f in frames if f.filename.replace("\\", "/").endswith((f"{tail}.py", f"{tail}/__init__.py"))]
    last = (own or [f for f in frames if f.filename != __file__] or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def _reason_of(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Kind(ModuleType):
    """The names of one kind, as recipes write them: `from avse.plugins.fusion import concat` gives a class."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{__name__}.{kind}", f"The plugins of kind {kind}, by name.")
        self._kind = kind

    def __getattr__(self, name: str) -> type[Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return get(self._kind, name)
        except AvseError as error:
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        return names(self._kind)

    def __repr__(self) -> str:
        return f"<{self._kind} plugins: {', '.join(names(self._kind))}>"


for _kind in KINDS:
    globals()[_kind] = sys.modules[f"{__name__}.{_kind}"] = _Kind(_kind)
