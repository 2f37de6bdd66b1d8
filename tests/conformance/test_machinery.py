"""How checks are run: what a result says, and what running leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mutants.enhancer import GoodEnhancer
from mutants.fusion import GoodFusion, IdleLayer
from mutants.metric import Distance
from torch import nn
from torch.nn import functional as F

from avse.conformance import Check, CheckFailed, NotApplicable, build, checks_of, run_check, run_checks
from avse.conformance.common import recipe_round_trip
from avse.conformance.complexity import grows_as_declared
from avse.conformance.runner import check_plugins
from avse.contracts.fusion import Fusion
from avse.errors import AvseError
from avse.plugins import forget, get, register


def check(kind: str, name: str) -> Check:
    return next(check for check in checks_of(kind) if check.name == name)


def failed(cls: type, kind: str) -> set[str]:
    return {result.check.name for result in run_checks(cls, kind) if not result.passed}


def test_a_result_says_what_was_expected_found_and_how_to_mend_it() -> None:
    gradients = check("fusion", "gradients")
    result = run_check(gradients, IdleLayer)
    text = str(result)
    assert "FAIL  gradients" in text and "unused.weight, unused.bias" in text
    assert gradients.expected in text and gradients.hint in text
    assert result.outcome == "FAIL" and isinstance(result.error, CheckFailed)
    assert result.place.rpartition(":")[0].endswith("mutants/fusion.py") and result.place in text
    assert run_check(check("fusion", "reliability"), GoodFusion).outcome == "pass"


def test_an_exception_of_a_plugin_is_a_failure_with_its_place() -> None:
    class Raises(GoodFusion):
        def delta(self, audio, video, valid):
            raise KeyError("lips")

    result = run_check(check("fusion", "reliability"), Raises)
    line = Raises.delta.__code__.co_firstlineno + 1
    assert not result.passed and result.found == "raised KeyError: 'lips'" and result.place == f"{__file__}:{line}"


def test_one_nan_under_many_checks_is_told_once_before_them_with_its_place(capsys: pytest.CaptureFixture) -> None:
    class MakesNaN(GoodFusion):
        """A fusion.

        Arguments
        ---------
        audio_dim, video_dim : int
        """

        def delta(self, audio, video, valid):
            """See `Fusion.delta`."""
            delta, reliability = super().delta(audio, video, valid)
            return (delta - 100).sqrt(), reliability

    torch.use_deterministic_algorithms(True)  # fills fresh memory, as of weights before they are set, with NaN
    try:
        assert not check_plugins([MakesNaN], show_traceback=False)
    finally:
        torch.use_deterministic_algorithms(False)
    told = " ".join(capsys.readouterr().out.split())
    title, _, rest = told.partition(" checks met the same NaN: ")
    assert int(title.split()[-1]) > 2 and "pass" not in title
    assert told.count("the first NaN comes from sqrt") == 1
    assert f"test_machinery.py:{MakesNaN.delta.__code__.co_firstlineno + 3} " in rest


def test_advice_fits_an_overridden_forward_and_a_wrong_constructor() -> None:
    class OwnForward(GoodFusion):
        def forward(self, audio, video, valid):
            delta, reliability = self.delta(audio, video, valid)
            return audio + delta, reliability

    class OtherNames(GoodFusion):
        def __init__(self, sound: int, lips: int) -> None:
            super().__init__(sound, lips)

    reliability = check("fusion", "reliability")
    result = run_check(reliability, OwnForward)
    assert result.hint == f"leave `forward` to the contract and write `delta` only; else: {reliability.hint}"
    result = run_check(reliability, OtherNames)
    assert "unexpected keyword argument" in result.found and result.raised
    assert result.hint.startswith("the constructor takes audio_dim and video_dim")
    assert result.place == f"{__file__}:{OtherNames.__init__.__code__.co_firstlineno}"


def test_a_missing_optional_package_is_not_a_fault() -> None:
    class Needs(Distance):
        """Needs a package that is not there."""

        def __init__(self) -> None:
            raise AvseError("needs the package x, which is not installed")

    with pytest.raises(NotApplicable):
        build(Needs)
    assert failed(Needs, "metric") == set()
    assert run_check(check("metric", "repeatable"), Needs).outcome == "n/a"


def test_checks_leave_the_random_state_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(0)
    np.random.seed(0)
    run_checks(GoodFusion, "fusion")
    assert torch.equal(torch.rand(2), expected[0]) and np.array_equal(np.random.rand(2), expected[1])


def test_common_mistakes_that_break_several_promises_are_found_by_each() -> None:
    class DrawsInEvaluation(GoodFusion):
        def look(self, video):
            return F.dropout(video, 0.5)

    class MeansOverPadding(GoodEnhancer):
        def scale(self, batch):
            return super().scale(batch) / (1e-3 + batch.noisy.abs().mean(dim=1, keepdim=True))

    assert {"repeatable", "invalid_frames_ignored"} <= failed(DrawsInEvaluation, "fusion")
    assert {"padding", "batch_equals_singles", "causal"} <= failed(MeansOverPadding, "enhancer")


def test_a_plugin_with_causal_variant_is_checked_in_it() -> None:
    class Lies(GoodFusion):
        """Adds a projection of later video.

        Arguments
        ---------
        audio_dim, video_dim : int
        causal : bool
        """

        def __init__(self, audio_dim: int, video_dim: int, causal: bool = False) -> None:
            super().__init__(audio_dim, video_dim)
            self.causal = causal

        def look(self, video):
            return F.pad(video[:, 1:], (0, 0, 0, 1))

    assert failed(Lies, "fusion") == {"causal"}


def test_growth_of_attention_must_be_declared_and_may_be_quadratic() -> None:
    class Attends(Fusion):
        def __init__(self, audio_dim: int, video_dim: int) -> None:
            super().__init__(audio_dim, video_dim)
            self.layers = nn.ModuleList([nn.Linear(audio_dim, 8), nn.Linear(video_dim, 8), nn.Linear(8, audio_dim)])

        def delta(self, audio, video, valid):
            query, key = self.layers[0](audio), self.layers[1](video)
            return self.layers[2](F.scaled_dot_product_attention(query, key, key)), audio.new_ones(audio.shape[:2])

    def sizes(fusion: Fusion, times: int) -> tuple[torch.Tensor, ...]:
        steps = 200 * times
        return torch.zeros(1, steps, 8), torch.zeros(1, steps, 6), torch.ones(1, steps, dtype=torch.bool)

    def run(fusion: Fusion, *streams: torch.Tensor) -> list[torch.Tensor]:
        return list(fusion(*streams))

    with pytest.raises(CheckFailed, match=r"does 4\.0 times the work .* declared linear") as failure:
        grows_as_declared(Attends, sizes, run)
    assert failure.value.place == f"{__file__}:{Attends.delta.__code__.co_firstlineno + 2}"
    Attends.complexity = "quadratic"
    grows_as_declared(Attends, sizes, run)


def test_work_is_counted_the_same_in_every_run() -> None:
    from avse.conformance.complexity import _Work

    def count() -> dict:
        with torch.no_grad(), _Work() as work:
            build(GoodFusion)(torch.zeros(1, 9, 8), torch.zeros(1, 9, 6), torch.ones(1, 9, dtype=torch.bool))
        return dict(work.by_place)

    first = count()
    assert first == count() and sum(first.values()) > 1000


def test_a_recipe_writes_plugins_within_plugins_and_leaves_their_classes_alone() -> None:
    masker = get("enhancer", "tf_masker")
    before = masker.__init__
    recipe_round_trip(masker)
    assert masker.__init__ is before

    taken = type("Taken", (GoodFusion,), {"__doc__": GoodFusion.__doc__})
    register("fusion", "planted_once")(GoodFusion)
    try:
        taken.plugin_kind, taken.plugin_name = "fusion", "planted_once"
        with pytest.raises(CheckFailed, match="fusion.planted_once leads to .*GoodFusion"):
            recipe_round_trip(taken)
    finally:
        forget("fusion", "planted_once")
        del GoodFusion.plugin_kind, GoodFusion.plugin_name
    with pytest.raises(NotApplicable, match="not registered"):
        recipe_round_trip(GoodFusion)


@pytest.mark.parametrize(
    ("code", "mixes"),
    [
        ("x * torch.ones(3)", True),
        ("x @ torch.eye(3)", True),
        ("torch.cat([x, torch.zeros(1, 3)])", True),
        ("x * torch.ones(3, device='cpu')", True),
        ("x.cpu() + x", True),
        ("x * torch.arange(3).float().sqrt()", True),
        ("F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(2, 2).bool())", True),
        ("x * torch.ones(3).numpy()[0]", False),
        ("x * torch.ones(3, device=x.device)", False),
        ("x * torch.ones(3).to(x.device)", False),
        ("x * torch.ones(3).to(x)", False),
        ("x * x.new_ones(3)", False),
        ("x * torch.tensor(2.0)", False),
        ("x[torch.arange(2)]", False),
        ("x + x.cpu().numpy().sum()", False),
        ("x * torch.tensor([1.0, 2.0]).sum().item()", False),
        ("x * len(x.tolist())", False),
    ],
)
def test_a_played_move_finds_what_a_real_one_would(code: str, mixes: bool) -> None:
    from avse.conformance.devices import _LeftBehind, _SecondDevice

    x = torch.rand(2, 3)

    def run() -> None:
        with _SecondDevice():
            out = eval(code, {"x": x, "torch": torch, "F": F})
        assert not isinstance(out, _LeftBehind)

    if mixes:
        with pytest.raises(CheckFailed, match="two devices"):
            run()
    else:
        run()
