"""Published results: JSON below `recipes/*/results/`, and the tables of Markdown that are made from it.

    python benchmarks/results.py add scores/live recipes/Manifest/results/faces_test --name avse-live
    python benchmarks/results.py write       # `make results`
    python benchmarks/results.py check

`add` takes the folder of `avse evaluate` or `avse study`, or a `compare.json`, and writes `avse-live.json`, all
tables that show the folder `faces_test`, and `scores` in the `model.json` of each embedded model: what the tables of
its card show of it over all corpora. A folder of results has the name of the scenes that its results are of
(`recipes/Manifest/scenes/faces_test.csv`), so that `benchmarks/nightly.py` can measure them again.

A table stands in Markdown between two comments, the first of which says in YAML what it shows:

    <!-- results
    from: results/faces_test
    where: {condition: [babble, recorded], metric: si_sdr_improvement, video: [without, with]}
    columns: [condition, snr, video]
    -->
    <!-- end of results -->

Each result is a list of cells, and a cell has dimensions: `system`, `metric`, `condition`, `snr`, `corpus`, `video`
(`with`, `without` or `difference`), `corruption`, `severity`, `group` of a separation, and what a file adds. Keys:

    from      a folder or file of results, or a list of them
    rows      dimensions of the rows (default: system); a dimension that the table does not name must be empty,
              `corpus: all`, `video: with`, and `system`, `metric`, `condition` and `snr` the only one
    columns   dimensions of the columns (default: condition, snr)
    where     values of a dimension; patterns such as `av-*` match; a list is an order
    names     how a value is written
    title     of the first column (default: the metric)
    interval  false: means alone
    finer     more decimals than the metric's own

A file without scores of single mixtures was not measured by `avse evaluate`; its `provenance` says where it is from.
A system that was measured takes the place of what such files say of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from avse.errors import AvseError
from avse.evaluation.runner import model_hash
from avse.evaluation.tables import markdown, with_interval
from avse.files import write_text
from avse.model_folder import DESCRIPTION, PRETRAINED, kind_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "recipes/**/*.md", "docs/**/*.md", "avse/pretrained/*/README.md")
BLOCK = re.compile(r"(<!-- results\n(.*?)-->\n)(.*?)(<!-- end of results -->)", re.DOTALL)
STATISTICS = ("mean", "low", "high", "n", "groups", "p")
ABOUT = ("provenance", "source")  # of a cell: text where `avse evaluate` did not measure it, and its file
DEFAULTS = {"corpus": "all", "video": "with"}
METRICS = {  # title, unit, factor
    "si_sdr": ("SI-SDR", "dB", 1),
    "si_sdr_improvement": ("SI-SDR improvement", "dB", 1),
    "sdr": ("SDR", "dB", 1),
    "sir": ("SIR", "dB", 1),
    "sar": ("SAR", "dB", 1),
    "leakage": ("leakage", "dB", 1),
    "pesq_wb": ("PESQ-WB", "MOS", 1),
    "dnsmos": ("DNSMOS", "MOS", 1),
    "stoi": ("STOI", "", 1),
    "estoi": ("ESTOI", "", 1),
    "wrong_speaker": ("wrong speaker", "%", 100),
    "switch_accuracy": ("switch", "%", 100),
    "auc": ("AUC", "AUC", 1),
    "ece": ("calibration error", "ECE", 1),
}

Cell = dict[str, Any]


def result_files() -> list[Path]:
    """All published results."""
    return sorted(ROOT.glob("recipes/**/results/**/*.json"))


def cells_of(path: Path) -> list[Cell]:
    """The cells of a result: dimensions as text, and `mean`, and where known `low`, `high`, `n` and `groups`."""
    result = json.loads(path.read_text(encoding="utf-8"))
    about = {
        **DEFAULTS,
        "system": result.get("system", ""),
        "provenance": result.get("provenance", ""),
        "source": path,
    }
    return [
        {key: value if key in STATISTICS else _text(value) for key, value in {**about, **cell}.items()}
        for cell in _cells(result)
        if cell.get("mean") is not None
    ]


def _cells(result: Mapping[str, Any]) -> Iterator[Cell]:
    for table in result.get("tables", ()):
        place = {name: table[name] for name in ("condition", "snr", "metric")}
        for corpus, cell in table["corpora"].items():
            for video, score in cell.items():
                if video == "noisy":
                    yield {**place, "system": "noisy", "corpus": corpus, **score}
                elif isinstance(score, Mapping):
                    yield {**place, "corpus": corpus, "video": video, **score}
    for cell in result.get("corruptions", ()):
        place = {"corruption": cell["video"], "severity": cell["severity"], "video": "difference"}
        for metric, score in cell["scores"].items():
            yield {**place, "metric": metric, **score}
        yield from ({**place, "video": "with", "metric": name, "mean": cell[name]} for name in ("auc", "ece"))
    for group, scores in result.get("groups", {}).items():
        for metric, score in scores.items():
            yield {"group": group, "metric": metric, **score}
    for metric, about in result.get("metrics", {}).items():
        for label, places in about.get("differences", {}).items() if isinstance(about, Mapping) else ():
            place = {"system": label, "metric": metric, "video": "difference"}
            yield {**place, "condition": "all", **places["overall"]}
            for condition, cells in places["by_condition_snr"].items():
                yield from ({**place, "condition": condition, "snr": snr, **cell} for snr, cell in cells.items())
    runs = result.get("runs", {})
    for run, about in runs.items() if isinstance(runs, Mapping) else ():
        for corpus, scores in about["scores"].items():
            for metric, score in scores.items():
                place, moved = {"system": run, "corpus": corpus, "metric": metric}, score.pop("difference", None)
                yield {**place, **score}
                if moved:
                    yield {**place, "video": "difference", **moved}
    if not runs:
        yield from ({"metric": name, **score} for name, score in result.get("scores", {}).items())
    yield from result.get("cells", ())


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def selected(spec: Mapping[str, Any], folder: Path) -> tuple[list[Cell], dict[str, list[str]]]:
    """The cells that a comment in a page of this folder asks for, and the values that each dimension may have.

    Raises
    ------
    AvseError
        If there are none.
    """
    rows, columns = dimensions_of(spec)
    places = [spec["from"]] if isinstance(spec["from"], str) else spec["from"]
    files = [file for place in places for file in sorted((folder / place).glob("*.json")) or [folder / place]]
    read = [cell for file in files for cell in cells_of(file)]
    measured = {cell["system"] for cell in read if not cell["provenance"]}
    known: dict[tuple[tuple[str, str], ...], Cell] = {}
    for cell in read:
        if cell["provenance"] and cell["system"] in measured - {"noisy"}:
            continue
        key = tuple((name, cell[name]) for name in sorted(cell.keys() - {*STATISTICS, *ABOUT}) if cell[name])
        if key not in known or known[key]["provenance"]:
            known[key] = cell
    where = {
        name: [str(one) for one in (value if isinstance(value, list) else [value])]
        for name, value in spec.get("where", {}).items()
    }
    given = {*rows, *columns, *where, *STATISTICS, "system", "metric", "condition", "snr", *ABOUT}
    hidden = {*DEFAULTS, *(name for cell in known.values() for name in cell)} - given
    where |= {name: [DEFAULTS.get(name, "")] for name in hidden}
    cells = [
        cell for cell in known.values() if all(_rank(cell, name, wanted) is not None for name, wanted in where.items())
    ]
    if not cells:
        raise AvseError(f"{folder}: no result in {', '.join(places)} has {dict(where)}.")
    return cells, where


def dimensions_of(spec: Mapping[str, Any]) -> list[Sequence[str]]:
    """The dimensions of the rows of a table, and of its columns."""
    given = spec.get("rows", "system"), spec.get("columns", ["condition", "snr"])
    return [[names] if isinstance(names, str) else names for names in given]


def table(spec: Mapping[str, Any], folder: Path) -> str:
    """The table that a comment in a page of this folder asks for, with a line on its intervals.

    Raises
    ------
    AvseError
        If there are no such results, or several for one place of the table.
    """
    rows, columns = dimensions_of(spec)
    cells, where = selected(spec, folder)
    names = {str(key): str(value) for key, value in spec.get("names", {}).items()}
    grid: dict[tuple[str, ...], dict[tuple[str, ...], Cell]] = {}
    for cell in cells:
        row, column = (tuple(cell.get(name, "") for name in one) for one in (rows, columns))
        if column in grid.setdefault(row, {}):
            differ = [
                name for name in cell if name not in (*STATISTICS, *ABOUT) and cell[name] != grid[row][column].get(name)
            ]
            raise AvseError(f"{folder}: two results for {row} and {column}; name in `where` which {', '.join(differ)}.")
        grid[row][column] = cell

    def ordered(dimensions: Sequence[str], keys: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        seen = [list(dict.fromkeys(column)) for column in zip(*keys)]

        def place(key: tuple[str, ...]) -> list[tuple[float, float]]:
            return [
                (_rank({name: value}, name, where.get(name, ["*"])) or 0, _order(name, value, values))
                for name, value, values in zip(dimensions, key, seen)
            ]

        return sorted(dict.fromkeys(keys), key=place)

    heads = ordered(columns, [column for row in grid.values() for column in row])
    mixed = len({bool(cell["provenance"]) for cell in cells}) > 1
    counted = "corpus" in rows
    lines = []
    for row in ordered(rows, list(grid)):
        told = mixed and all(cell["provenance"] for cell in grid[row].values())
        texts = [_number(grid[row].get(head), spec, mixed and not told) for head in heads]
        counts = [str(max(cell.get("groups", 0) for cell in grid[row].values()))] if counted else []
        label = [_written(name, value, names) for name, value in zip(rows, row)]
        lines.append([label[0] + " *" * told, *label[1:], *counts, *texts])
    metrics = dict.fromkeys(cell["metric"] for cell in cells)
    title = spec.get("title", _title(next(iter(metrics))) if len(metrics) == 1 else "")
    first = [title, *[""] * (len(rows) - 1), *(["speakers"] if counted else [])]
    header = [
        *first,
        *(
            ", ".join(filter(None, (_written(name, value, names) for name, value in zip(columns, head))))
            for head in heads
        ),
    ]
    return f"{markdown(header, lines)}\n\n{_note(cells, spec, mixed)}\n"


def _rank(cell: Mapping[str, Any], name: str, wanted: Sequence[str]) -> int | None:
    """Place of a cell's value in a list of patterns."""
    return next((place for place, one in enumerate(wanted) if fnmatchcase(cell.get(name, ""), one)), None)


def _order(name: str, value: str, seen: Sequence[str]) -> float:
    """Numbers by size, other values as they come."""
    return float(value or 0) if name in ("snr", "severity") else seen.index(value)


def _title(metric: str) -> str:
    title, unit, _ = METRICS.get(metric, (metric.replace("_", " "), "", 1))
    return f"{title} ({unit})" if unit in ("dB", "%") else title


def _written(name: str, value: str, names: Mapping[str, str]) -> str:
    if value in names:
        return names[value]
    if name == "video":
        return {"with": "with video", "without": "without video", "difference": "difference"}.get(value, value)
    if name == "metric":
        return _title(value)
    return f"{value} dB" if name == "snr" and value else value if "`" in value else value.replace("_", " ")


def _number(cell: Cell | None, spec: Mapping[str, Any], mixed: bool) -> str:
    if cell is None:
        return "-"
    _, unit, factor = METRICS.get(cell["metric"], ("", "", 1))
    sign = cell.get("video") == "difference" and unit not in ("AUC", "ECE") or cell["metric"].endswith("_improvement")
    scaled = {name: factor * cell[name] if cell.get(name) is not None else None for name in ("mean", "low", "high")}
    if not spec.get("interval", True):
        scaled["low"] = None
    finer = spec.get("finer", 0) - (2 if unit == "%" else 0)
    return with_interval(scaled, unit, sign, finer) + (" *" if mixed and cell["provenance"] else "")


def _note(cells: Sequence[Cell], spec: Mapping[str, Any], mixed: bool) -> str:
    """Over how many speakers the intervals go, and where figures are from that `avse evaluate` did not write."""
    groups = [cell["groups"] for cell in cells if not cell["provenance"] and cell.get("groups")]
    parts = []
    if groups:
        few, many = min(groups), max(groups)
        over = f"{many}" if few == many else f"{few} to {many}"
        parts.append(f"{'Means, 95 % intervals' if spec.get('interval', True) else 'Means'} over {over} speakers.")
    parts += [
        f"{'* ' * mixed}{one}." for one in dict.fromkeys(cell["provenance"] for cell in cells if cell["provenance"])
    ]
    return " ".join(parts)


def scores_of(name: str) -> list[dict[str, Any]]:
    """What the tables of an embedded model's card show of it over all corpora, a list of values for each protocol."""
    card = PRETRAINED / name / "README.md"
    hidden = (*ABOUT, "corpus", "p", *(["video"] if kind_of(name) else []))
    found: dict[Path, list[Cell]] = {}
    for match in BLOCK.finditer(card.read_text(encoding="utf-8")):
        for cell in selected(yaml.safe_load(match[2]), card.parent)[0]:
            if cell["corpus"] == "all" and (f"`{name}`" in cell["system"] or "`" not in cell["system"]):
                found.setdefault(Path(cell["source"]).resolve(), []).append(cell)
    return [
        {
            "protocol": protocol_of(path, cells[0]),
            "results": path.relative_to(ROOT).as_posix(),
            "values": [
                {
                    key: _value(key, value)
                    for key, value in cell.items()
                    if key not in hidden and value not in ("", None) and (key, value) != ("system", f"`{name}`")
                }
                for cell in cells
            ],
        }
        for path, cells in found.items()
    ]


def protocol_of(path: Path, cell: Cell) -> str:
    """How a file of results was measured, in words."""
    scenes = path.parents[2] / "scenes" / f"{path.parent.name}.csv"
    return cell["provenance"] or f"`avse evaluate` on {scenes.relative_to(ROOT).as_posix()}"


def _value(key: str, value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else float(value) if key == "snr" else value


def written(page: Path) -> str:
    """The text of a page with its tables, or of a `model.json` with its scores, as the results have them."""
    if page.suffix == ".json":
        about = json.loads(page.read_text(encoding="utf-8"))
        return json.dumps({**about, "scores": scores_of(page.parent.name)}, indent=2, ensure_ascii=False) + "\n"

    def block(match: re.Match[str]) -> str:
        try:
            return match[1] + table(yaml.safe_load(match[2]), page.parent) + match[4]
        except (AvseError, yaml.YAMLError, KeyError, OSError, ValueError) as error:
            raise AvseError(f"{page}: {match[2].strip()}\n{type(error).__name__}: {error}") from None

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Pages with tables of results, and what describes each embedded model."""
    found = (path for pattern in PAGES for path in sorted(ROOT.glob(pattern)) if "_build" not in path.parts)
    tables = [path for path in found if "<!-- results\n" in path.read_text(encoding="utf-8")]
    return tables + sorted(ROOT.glob(f"avse/pretrained/*/{DESCRIPTION}"))


def drifted() -> list[Path]:
    """Pages that `write` would change."""
    return [page for page in pages() if written(page) != page.read_text(encoding="utf-8")]


def stale() -> list[str]:
    """Results that name an embedded model (key `model`) of which they are no longer, and what to do."""
    faults = []
    for path in result_files():
        result = json.loads(path.read_text(encoding="utf-8"))
        name, measured = result.get("model"), result.get("settings", {}).get("model_sha256")
        if name and model_hash(name) != measured:
            faults.append(
                f"{path.relative_to(ROOT)}: is of other weights or another recipe of {name} ({measured} there, "
                f"{model_hash(name)} now). Measure again and `add`, and delete this file, or name its rows anew and "
                "remove `model`."
            )
    return faults


def add(source: Path, folder: Path, name: str | None) -> Path:
    """Publish the results in a folder of `avse evaluate` or `avse study`, or a `compare.json`."""
    found = (
        [source]
        if source.is_file()
        else [source / one for one in ("results.json", "lips.json", "probe.json", "frontends.json")]
    )
    path = next((one for one in found if one.is_file()), None)
    if path is None:
        raise AvseError(f"{source}: holds no results. Name a folder that `avse evaluate` or `avse study` wrote.")
    text = path.read_text(encoding="utf-8")
    result = json.loads(text)
    measured = result.get("settings", {}).get("model_sha256")
    model = next(
        (one.parent.name for one in PRETRAINED.glob("*/model.json") if model_hash(one.parent.name) == measured), None
    )
    head = {"system": name or result.get("system", source.name), **({"model": model} if model else {})}
    if "differences" in str(result.get("metrics")):
        result["runs"] = result["labels"]  # folders of a machine
    target = folder / (re.sub(r"[^\w.-]+", "_", head["system"]).strip("_") + ".json")
    lines = [
        f" {json.dumps(key)}: {_lines(value)}"
        for key, value in {**head, **{k: v for k, v in result.items() if k not in head}}.items()
    ]
    write_text(target, "{\n" + ",\n".join(lines) + "\n}\n")
    return target


def _lines(value: Any) -> str:
    """JSON with a line for each item of a list of objects."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("write", help="write the tables of all pages")
    verbs.add_parser("check", help="exit with 1 if a page or a result is out of date")
    adding = verbs.add_parser("add", help="publish a result and write the tables")
    adding.add_argument("source", type=Path, help="what `avse evaluate`, `avse study` or `avse compare` wrote")
    adding.add_argument("folder", type=Path, help="such as recipes/Manifest/results/faces_test")
    adding.add_argument("--name", help="of the row (default: the system's)")
    given = parser.parse_args()
    try:
        if given.verb == "check":
            faults = [*stale(), *(f"{page.relative_to(ROOT)}: run `make results`." for page in drifted())]
            sys.exit("\n".join(faults) if faults else 0)
        if given.verb == "add":
            print(add(given.source, given.folder, given.name))
        for page in drifted():
            write_text(page, written(page))
            print(page.relative_to(ROOT))
    except AvseError as error:
        sys.exit(f"results: {error}")


if __name__ == "__main__":
    main()
