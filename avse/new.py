"""`avse new`: writes a plugin that already works, a package of one, or a recipe for a corpus, from the templates."""

from __future__ import annotations

import builtins
import importlib.util
import itertools
import keyword
import re
import shlex
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from avse import plugins
from avse.errors import AvseError
from avse.files import shipped_folder, write_text

RECIPE = "recipe"
MAX_NAME = 40

# The name that templates carry in place of the plugin's.
_PLUGIN, _CORPUS = "my_plugin", "MY_CORPUS"
_EVALUATE = "avse evaluate --manifest MANIFEST --model avse-small -o results/scores"
# How a plugin of a kind is used, where it is not a part of a recipe that stands under the kind's name.
_USES = {
    "prior": "avse train RECIPE --model {name}",
    "sde": "avse train RECIPE --model.sde {name}",
    "sampler": "avse enhance talk.mp4 --model MODEL --inference.sampler {name}",
    "noise_model": "avse enhance talk.mp4 --model MODEL --noise_model {name}",
    "inference": "avse enhance talk.mp4 --model MODEL --inference {name}",
    "enhancer": "avse train RECIPE --model {name}",
    "corruption": _EVALUATE + " --corrupt {name}=3",
    "metric": _EVALUATE + " --metric {name}",
    "dataset": "avse prepare {name} FOLDER",
    "mouth_tracker": 'python -c \'import avse; avse.read_clip("talk.mp4", tracker="{name}")\'',
}


@dataclass(frozen=True)
class Created:
    """What `create` wrote."""

    path: Path  # the file, or the folder of a package or a recipe
    commands: list[tuple[str, str]]  # the next steps: what each does, and its command


def create(kind: str, name: str, out: str | Path = ".", *, package: bool = False, force: bool = False) -> Created:
    """Write a plugin, a package of one, or a recipe for a corpus.

    Arguments
    ---------
    kind : str
        A kind of plugin, or `recipe`.
    name : str
        Of the plugin, in small letters, digits and underscores; or of the corpus.
    out : path
        The folder to write into; made if missing.
    package : bool
        Write a folder that `pip install` takes, with its tests, in place of one file.
    force : bool
        Replace files that are already there; others in their folder stay.

    Returns
    -------
    Created

    Raises
    ------
    AvseError
        If the kind is unknown, the name cannot be used or is taken, or there are files already.

    Example
    -------
    >>> created = create("fusion", "example_fusion", tempfile.mkdtemp())
    >>> created.path.name, created.commands[0][1].startswith("avse check ")
    ('example_fusion.py', True)
    """
    if kind not in (*plugins.KINDS, RECIPE):
        raise AvseError(plugins.unknown("template", kind, (*plugins.KINDS, RECIPE)))
    if kind == RECIPE and package:
        raise AvseError("A recipe is a folder that is used where it is; --package is for plugins.")
    plugin_kind, plugin = ("dataset", _plugin_of_corpus(name)) if kind == RECIPE else (kind, name)
    target = Path(out).expanduser() / (name if package or kind == RECIPE else f"{name}.py")
    if reason := _why_not(plugin_kind, plugin, target.resolve()):
        raise AvseError(f"{reason} Try {_suggestion(plugin_kind, plugin)!r}.")
    if target.exists() and not force:
        raise AvseError(
            f"{target}: is there already. Choose another name or --output, or give --force to replace what avse wrote."
        )
    text, quoted = _render_plugin(plugin_kind, plugin), shlex.quote(str(target))
    if kind == RECIPE:
        _write_folder(target, {**_render_folder("recipe", {_CORPUS: name, _PLUGIN: plugin}), f"{plugin}.py": text})
        file, recipe = (shlex.quote(str(target / part)) for part in (f"{plugin}.py", "hparams/tf_masker.yaml"))
        return Created(
            target,
            [
                ("Change and check how the corpus is read", f"avse check {file}"),
                ("Write its manifest", f"avse --plugins {file} prepare {plugin} FOLDER"),
                ("Train", f"avse train {recipe} --manifest FOLDER/manifest.csv"),
            ],
        )
    check = ("Check it", f"avse check {quoted}")
    if not package:
        write_text(target, text)
        return Created(target, [check, ("Use it", _use(kind, name, target))])
    tokens = {_PLUGIN: name, "my-plugin": name.replace("_", "-"), "MyPlugin": _class_name(kind, name)}
    files = _render_folder("package", {**tokens, "my_kind": kind, "my_use_command": _use(kind, name)})
    _write_folder(target, {**files, f"{name}/{name}.py": text})
    install = f"pip install -e {shlex.quote(str(target) if target.is_absolute() else f'./{target}')}"
    return Created(target, [check, ("Install it", install), ("Use it", _use(kind, name))])


def _why_not(kind: str, name: str, target: Path | None = None) -> str:
    """Why a plugin cannot have a name; empty if it can. The file or folder `target`, which is replaced, is ignored."""
    reason = ""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        reason = "is written in small letters, digits and single underscores, and begins with a letter"
    elif keyword.iskeyword(name):
        reason = "is no keyword of Python"
    elif name.startswith("test_") or name in ("test", "tests", "setup", "conftest"):
        reason = "is not that of a test or of a setup, which are ignored in folders of plugins"
    elif len(name) > MAX_NAME:
        reason = f"has at most {MAX_NAME} letters"
    if reason:
        return f"The name of a plugin {reason}; got {name!r}."
    if name in plugins.names(kind):
        place = plugins.place(kind, name)
        if not _is_inside(place.rpartition(":")[0], target):
            return f"There is already a {kind} plugin {name!r} ({place})."
    module = importlib.util.find_spec(name)
    origin = module.origin if module is not None else None
    if name in sys.stdlib_module_names or (origin is not None and not _is_inside(origin, target)):
        return f"{name!r} is a module that others import, and a file of that name may hide it."
    return ""


def _plugin_of_corpus(name: str) -> str:
    """Name of the dataset plugin that goes with a corpus: LRS3-TED becomes lrs3_ted."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([_-][A-Za-z0-9]+)*", name) or len(name) > MAX_NAME:
        words = re.sub("[_-]{2,}", "_", _plain(name, r"[^A-Za-z0-9_-]+")).strip("_-") or "CORPUS"
        words = words if words[0].isalpha() and words != "CORPUS" else f"MY_{words}"
        raise AvseError(
            f"The name of a corpus is written in at most {MAX_NAME} letters, digits, hyphens and underscores, and "
            f"begins with a letter; got {name!r}. Try {words[:MAX_NAME].strip('_-')!r}."
        )
    return name.lower().replace("-", "_")


def _suggestion(kind: str, name: str) -> str:
    """The nearest name that is free."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _plain(name, r"[^A-Za-z0-9]+")).lower()
    words = re.sub(r"_+", "_", words.removeprefix("test_")).strip("_")[:MAX_NAME].strip("_") or kind
    mine = f"my_{words}"[: MAX_NAME - 4].strip("_")
    candidates = itertools.chain([words] if words != kind else [], [mine], (f"{mine}_{n}" for n in itertools.count(2)))
    return next(candidate for candidate in candidates if not _why_not(kind, candidate))


def _plain(name: str, others: str) -> str:
    """A name without accents, each run of `others` an underscore."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(others, "_", plain).strip("_")


def _is_inside(file: str, target: Path | None) -> bool:
    path = Path(file).resolve()
    return path == target or target in path.parents


def _class_name(kind: str, name: str) -> str:
    """MyFusion for my_fusion; MyFusionPlugin where the template or Python uses MyFusion."""
    name_of_class = "".join(word.capitalize() for word in name.split("_"))
    used = set(re.findall(r"\w+", _template(kind)))
    taken = keyword.iskeyword(name_of_class) or hasattr(builtins, name_of_class) or name_of_class in used
    return f"{name_of_class}Plugin" if taken else name_of_class


def _render_plugin(kind: str, name: str) -> str:
    title = name[0].upper() + name[1:].replace("_", " ")
    return _replace(_template(kind), {_PLUGIN: name, "MyPlugin": _class_name(kind, name), "My plugin": title})


def _template(kind: str) -> str:
    return (shipped_folder("templates", "fusion") / kind / f"{_PLUGIN}.py").read_text(encoding="utf-8")


def _render_folder(template: str, tokens: dict[str, str]) -> dict[str, str]:
    """Texts of a folder's files by relative path."""
    folder = shipped_folder("templates", "fusion") / template
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {
        _replace(path.relative_to(folder).as_posix(), tokens): _replace(path.read_text(encoding="utf-8"), tokens)
        for path in paths
    }


def _replace(text: str, tokens: dict[str, str]) -> str:
    pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
    return re.sub(rf"(?<![A-Za-z0-9])({pattern})(?![A-Za-z0-9])", lambda match: tokens[match[1]], text)


def _write_folder(target: Path, files: dict[str, str]) -> None:
    """Write files into a folder beside the target, and move them when all are complete."""
    if target.exists() and not target.is_dir():
        raise AvseError(f"{target}: is a file where a folder would be written. Choose another name or --output.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            folder = Path(temporary, target.name)  # has the rights of the user's settings
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            if not target.exists():
                folder.rename(target)
                return
            for name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(target / name)
    except OSError as error:
        raise AvseError(f"{target}: cannot be written ({error.strerror or error}). Choose another --output.") from error


def _use(kind: str, name: str, path: Path | None = None) -> str:
    """The command that uses a plugin of a file, if `path` is given, else of an installed package."""
    text = _USES.get(kind, f"avse train RECIPE --{kind} {{name}}").format(name=name)
    if path is None:
        return text
    plugins_of = f"--plugins {shlex.quote(str(path))}"
    if kind == "mouth_tracker":
        return text.replace("import avse; ", f'import avse, avse.plugins; avse.plugins.load_path("{path}"); ')
    if text.startswith("avse train RECIPE"):
        return text.replace("avse train RECIPE", f"avse train RECIPE {plugins_of}")
    return text.replace("avse ", f"avse {plugins_of} ", 1)
