"""`avse check` and `avse.testing.parametrize_with_checks`, as the author of a plugin meets them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mutants.fusion import GoodFusion, IdleLayer

from avse import plugins
from avse.conformance import CheckFailed, NotApplicable, checks_of, does_not_apply
from avse.errors import AvseError
from avse.testing import parametrize_with_checks, run_check

pytest_plugins = "pytester"

PLUGIN = '''
import numpy as np

from avse import register
from avse.contracts.corruption import Corruption


@register("corruption", "{name}")
class Blacken(Corruption):
    """Black crops.

    Arguments
    ---------
    severity : int
    """

    def __call__(self, mouth, valid, rng):
        """See `Corruption.__call__`."""
        {result}
'''
LINE = PLUGIN[: PLUGIN.index("{result}")].count("\n") + 1  # of the result
GOOD, SHORT, RAISES = "return mouth * 0, valid.copy()", "return mouth[1:], valid[1:]", "return mouth['all'], valid"


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Writes a plugin file; its plugins are forgotten afterwards."""
    written = []

    def write_plugin(name: str, result: str = GOOD, folder: Path = tmp_path) -> Path:
        path = folder / f"{name}.py"
        path.write_text(PLUGIN.format(name=name, result=result))
        written.append(name)
        return path

    yield write_plugin
    for name in written:
        plugins.forget("corruption", name)


_NUMBERS = itertools.count()


@pytest.fixture
def installed(tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a package with one plugin, in a distribution `NAME-pack` that announces it."""
    name = f"effects{next(_NUMBERS)}"  # another one for each test: a module is imported once
    package, info = tmp_path / name, tmp_path / f"{name}_pack-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    write(f"black_{name}", folder=package)
    (package / "__init__.py").write_text(f"from {name} import black_{name}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[avse.plugins]\nall = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def rows(out: str) -> dict[str, str]:
    """Outcomes by check from the printed table."""
    return dict(re.findall(r"^(\w+) +(pass|FAIL|n/a) ", out, re.M))


def test_a_good_file_gets_a_table_and_a_line(write: Callable[..., Path], avse_command: Callable) -> None:
    path = write("blacken")
    outcome = avse_command("check", path)
    assert outcome.status == 0
    assert outcome.out.startswith(f"corruption/blacken  {path}:")
    expected = {check.name: "pass" for check in checks_of("corruption")}
    assert rows(outcome.out) == expected
    told = " ".join(outcome.out.split())
    assert all(reason in told and name in told for name, reason in does_not_apply("corruption").items())
    assert re.search(rf"^1 plugin, {len(expected)} checks: {len(expected)} pass, 0 fail, 0 n/a \(", outcome.out, re.M)


def test_a_failure_says_what_where_and_how_to_mend_in_plain_text_of_80_columns(
    write: Callable[..., Path], avse_command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("shorten", SHORT)
    monkeypatch.chdir(path.parent)
    outcome = avse_command("check", path, "--json", "found.json")
    assert outcome.status == 1
    found = rows(outcome.out)
    assert found["shapes"] == "FAIL" and found["documented"] == "pass"
    assert "\x1b" not in outcome.out and max(map(len, outcome.out.splitlines())) <= 80
    block = " ".join(outcome.out.partition("shapes ")[2].split())
    method = LINE - 2
    for word in (
        "expected clips of 0, 1, 2",
        "found 1 frames",
        f"where shorten.py:{method}",
        "hint return (frames, 88",
    ):
        assert word in block, word

    told = json.loads((path.parent / "found.json").read_text())
    assert told["passed"] is False and told["problems"] == []
    [plugin] = told["plugins"]
    assert (plugin["kind"], plugin["name"]) == ("corruption", "shorten")
    assert {check["check"]: check["outcome"] for check in plugin["checks"]} == {n: o.lower() for n, o in found.items()}
    failure = next(check for check in plugin["checks"] if check["check"] == "shapes")
    assert failure["where"] == f"{path}:{method}" and failure["expected"] and failure["found"] and failure["hint"]


def test_one_check_and_the_traceback_of_what_it_raised(write: Callable[..., Path], avse_command: Callable) -> None:
    path = write("raising", RAISES)
    outcome = avse_command("check", path, "--only", "leaves_input", "--traceback")
    assert outcome.status == 1 and rows(outcome.out) == {"leaves_input": "FAIL"}
    assert "Traceback (most recent call last)" in outcome.out and f'File "{path}", line {LINE}' in outcome.out
    assert "Did you mean 'leaves_input'" in avse_command("check", path, "--only", "leaves_inputs").message


def test_one_error_under_many_checks_is_told_once(
    write: Callable[..., Path], avse_command: Callable, tmp_path: Path
) -> None:
    path = write("stopping", RAISES)
    outcome = avse_command("check", path, "--json", tmp_path / "found.json")
    told = " ".join(outcome.out.split())
    assert outcome.status == 1 and told.count("raised IndexError") == 1 and "hint" not in told
    assert re.search(r"\d+ checks stopped at the same error: shapes, ", told) and f"where {path}:{LINE} " in told
    [plugin] = json.loads((tmp_path / "found.json").read_text())["plugins"]
    failures = [check for check in plugin["checks"] if check["outcome"] == "fail"]
    assert len(failures) > 2 and all("IndexError" in check["found"] and not check["hint"] for check in failures)
    assert f"Failed checks corruption/stopping: {', '.join(check['check'] for check in failures)} 1 plugin" in told


def test_failures_only(write: Callable[..., Path], avse_command: Callable) -> None:
    outcome = avse_command("check", write("blacken"), write("shorten", SHORT), "--failures")
    assert outcome.status == 1 and set(rows(outcome.out).values()) == {"FAIL"}
    assert "corruption/blacken" not in outcome.out and "2 plugins" in outcome.out


def test_a_misspelt_file_is_answered_with_the_nearest(write: Callable[..., Path], avse_command: Callable) -> None:
    path = write("my_effect")
    assert f"Did you mean {path}?" in avse_command("check", path.with_name("my_efect.py")).message


def test_a_kind_a_name_and_files_together(write: Callable[..., Path], avse_command: Callable) -> None:
    outcome = avse_command("check", "metric/si_sdr", write("blacken"), "embedding", "--only", "documented")
    assert outcome.status == 0
    assert "metric/si_sdr  " in outcome.out and "corruption/blacken  " in outcome.out
    assert "3 plugins, 3 checks: 3 pass" in outcome.out


@pytest.mark.parametrize("target", ["{}-pack", "{}_Pack", "{}"])
def test_an_installed_package_by_its_name(target: str, installed: str, avse_command: Callable) -> None:
    outcome = avse_command("check", target.format(installed), "--only", "shapes")
    assert outcome.status == 0, outcome.err
    assert f"corruption/black_{installed}  " in outcome.out and "1 plugin, 1 check: 1 pass" in outcome.out


def test_a_package_whose_plugins_cannot_be_loaded(
    tmp_path: Path, avse_command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avse.plugins]\nall = broken_module_of_theirs\n")
    (tmp_path / "broken_module_of_theirs.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    outcome = avse_command("check", "broken-pack")
    assert outcome.status == 1 and "broken_module_of_theirs.py:1" in outcome.out and "ZeroDivisionError" in outcome.out
    assert "0 plugins, 1 that cannot be loaded" in outcome.out
    with pytest.raises(AvseError, match="ZeroDivisionError"):
        parametrize_with_checks("broken-pack")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("fusoin", "no kind (mouth_tracker, visual_frontend"),
        ("fusion/cancat", "Did you mean 'concat'"),
        ("fusoin/concat", "Did you mean 'fusion'"),
        ("film_.py", "no such file or folder. Did you mean fusion/film?"),
        ("no/such/file.py", "no such file or folder"),
        ("pytest", "announces plugins in the entry-point group avse.plugins"),
    ],
)
def test_a_target_that_leads_nowhere(target: str, said: str, avse_command: Callable) -> None:
    assert said in avse_command("check", target).message


# --- pytest ---------------------------------------------------------------------------------------------------------


def test_a_package_tests_itself_in_three_lines(installed: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_theirs=f"""
from avse.testing import parametrize_with_checks
@parametrize_with_checks("{installed}-pack")
def test_conformance(plugin, check): check(plugin)
"""
    )
    outcome = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider")
    checks = checks_of("corruption")
    outcome.assert_outcomes(passed=len(checks))
    outcome.stdout.fnmatch_lines(
        [f"*test_conformance[[]corruption/black_{installed}-{check.name}]*" for check in checks]
    )


def test_failures_skips_and_known_failures_in_pytest(pytester: pytest.Pytester, write: Callable[..., Path]) -> None:
    path = write("raising", RAISES)
    pytester.makepyfile(
        test_theirs=f"""
from avse.testing import parametrize_with_checks

@parametrize_with_checks([{str(path)!r}, "fusion/none"], only=["shapes", "repeatable", "causal", "gradients"],
                         expected_failures={{"corruption/raising-shapes": "being mended"}})
def test_conformance(plugin, check):
    check(plugin)
"""
    )
    outcome = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=3, failed=1, skipped=1, xfailed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*return mouth*valid*",
            "*IndexError*",
            "*FAIL  repeatable*",
            f"*where: *raising.py:{LINE}*",
        ]
    )
    outcome.stdout.fnmatch_lines(["SKIPPED*nothing to learn*"])


def test_classes_need_no_name() -> None:
    [case, *others] = parametrize_with_checks([GoodFusion, IdleLayer]).args[1]
    assert case.id == "fusion/GoodFusion-documented" and others[-1].id == "fusion/IdleLayer-complexity"
    plugin, check = case.values
    assert plugin is GoodFusion and check(plugin) is None and "documented" in repr(check)
    broken = next(one for one in others if one.id == "fusion/IdleLayer-gradients")
    with pytest.raises(CheckFailed, match=r"(?s)expected: .*unused\.weight.*where: .*fusion\.py.*hint: "):
        broken.values[1](IdleLayer)


def test_wrong_names_are_told() -> None:
    with pytest.raises(AvseError, match="Did you mean 'padding'"):
        parametrize_with_checks("fusion/concat", only=["pading"])
    with pytest.raises(AvseError, match="Did you mean 'fusion/concat-padding'"):
        parametrize_with_checks("fusion/concat", expected_failures={"fusion/concat-pading": "why"})
    with pytest.raises(AvseError, match="has none of the classes of avse.contracts"):
        parametrize_with_checks(int)


def test_one_check_by_hand_raises_what_the_plugin_raised(write: Callable[..., Path]) -> None:
    path = write("raising", RAISES)
    with pytest.raises(IndexError) as raised:
        run_check(path, "shapes")
    assert raised.traceback[-1].path == path
    with pytest.raises(NotApplicable, match="nothing to learn"):
        run_check("fusion/none", "gradients")
    run_check(GoodFusion, "causal")
    with pytest.raises(AvseError, match="Did you mean 'shapes'"):
        run_check(GoodFusion, "shape")
