"""What each corruption does at each severity, and which frames it spoils; the contract itself is tested elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from avse import plugins
from avse.contracts.corruption import SEVERITIES, corrupted_frames

NAMES = plugins.names("corruption")
Video = tuple[np.ndarray, np.ndarray]


def talking(frames: int = 60, seed: int = 0, level: float = 150.0) -> Video:
    """Lips that open and close irregularly on a textured face with a nose; every frame differs from every other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:88, :88] - 43.5
    opening = 3 + np.abs(np.cumsum(rng.uniform(-3, 3, frames)) % 24 - 12)
    lips = (rows / opening[:, None, None]) ** 2 + (columns / 24.0) ** 2 < 1
    nose = np.hypot(rows + 34, columns) < 8
    face = np.where(lips, 0.3 * level, np.where(nose, 0.6 * level, level)) + 12 * np.sin(rows / 5) * np.cos(columns / 7)
    sensor = rng.integers(-2, 3, (frames, 88, 88))
    return np.clip(face + sensor, 0, 255).astype(np.uint8), np.ones(frames, dtype=bool)


def spoil(name: str, severity: int, video: Video, seed: int = 0, other: Video | None = None, **arguments) -> Video:
    corruption = plugins.get("corruption", name)(severity, **arguments)
    if other is not None:
        corruption = corruption.with_other(lambda: other)
    return corruption(*video, np.random.default_rng(seed))


def harm(video: Video, spoiled: Video) -> float:
    """Mean change in grey levels; a lost frame counts as half of all there are."""
    changed = np.abs(spoiled[0].astype(float) - video[0]).mean(axis=(1, 2))
    return float(np.where(spoiled[1] == video[1], changed, 128.0).mean())


# How unlike two frames are does not grow with their distance: time_shift has a test of its shifts.
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"time_shift"}))
def test_the_effect_grows_with_every_step_of_severity(name: str) -> None:
    video, other = talking(), talking(70, seed=1, level=110)
    effects = [
        np.mean([harm(video, spoil(name, severity, video, seed, other)) for seed in range(3)])
        for severity in SEVERITIES
    ]
    assert effects[0] > 0 and np.all(np.diff(effects) > 0), effects


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 5])
def test_the_truth_is_what_a_look_at_every_frame_tells(name: str, severity: int) -> None:
    mouth, valid = talking()
    valid[20:26] = False
    out, seen = spoil(name, severity, (mouth, valid), 3, talking(40, seed=1))
    expected = [
        bool(before != after or (before and after and (one.tobytes() != two.tobytes())))
        for before, after, one, two in zip(valid, seen, mouth, out)
    ]
    truth = corrupted_frames(mouth, valid, out, seen)
    assert truth.dtype == bool and truth.tolist() == expected and truth.any()
    assert not corrupted_frames(mouth, valid, mouth, valid).any()


@pytest.mark.parametrize(("severity", "frames"), [(1, 12), (3, 36), (5, 60)])
def test_spans_are_as_long_as_said(severity: int, frames: int) -> None:
    video, other = talking(), talking(60, seed=1)
    for name, short_by in (("missing", 0), ("frozen", 1), ("wrong_speaker", 0)):  # the frame that freezes shows itself
        spoiled = np.flatnonzero(corrupted_frames(*video, *spoil(name, severity, video, 2, other)))
        assert len(spoiled) == frames - short_by == spoiled[-1] - spoiled[0] + 1, name


def test_shifts_go_from_40_to_400_ms_in_both_directions() -> None:
    mouth, valid = talking()
    found: dict[int, set[int]] = {}
    for severity in SEVERITIES:
        for seed in range(8):
            out, seen = spoil("time_shift", severity, (mouth, valid), seed)
            places = [int(np.flatnonzero((mouth == out[at]).all(axis=(1, 2)))[0]) - at for at in np.flatnonzero(seen)]
            assert len(set(places)) == 1 and (~seen).sum() == abs(places[0])
            found.setdefault(severity, set()).add(places[0])
    assert found == {step: {-shift, shift} for step, shift in zip(SEVERITIES, (1, 3, 5, 7, 10))}


@pytest.mark.parametrize(("severity", "share"), [(1, 0.1), (3, 0.4), (5, 0.85)])
def test_dropped_frames_are_few_or_many_and_show_the_last_that_came(severity: int, share: float) -> None:
    mouth, valid = talking(300)
    out, seen = spoil("dropped_frames", severity, (mouth, valid), seed=1)
    lost = corrupted_frames(mouth, valid, out, seen)
    assert seen.all() and abs(lost.mean() - share) < 0.07
    for at in np.flatnonzero(lost):
        last = at - 1 - np.argmax(~lost[:at][::-1])
        assert np.array_equal(out[at], mouth[last])
    out, seen = spoil("dropped_frames", severity, (mouth, valid), noticed=True)
    assert np.array_equal(out, mouth) and abs((~seen).mean() - share) < 0.07


@pytest.mark.parametrize(("severity", "every"), [(1, 2), (2, 3), (5, 20)])
def test_a_slow_camera_shows_each_picture_until_the_next(severity: int, every: int) -> None:
    mouth, valid = talking()
    out, _ = spoil("frame_rate", severity, (mouth, valid))
    fresh = np.flatnonzero(~corrupted_frames(mouth, valid, out, valid))
    assert set(np.diff(fresh[1:])) <= {every} and len(fresh) >= 60 // every
    for at in range(60):
        assert np.array_equal(out[at], mouth[fresh[fresh <= at][-1]])


def test_compression_is_that_of_a_video_not_of_pictures() -> None:
    video = talking(40)
    out, _ = spoil("compression", 4, video)
    # What a frame becomes depends on those before it, and noise of the sensor is not worth its bits.
    again, _ = spoil("compression", 4, (video[0][20:], video[1][20:]))
    assert not np.array_equal(out[20], again[0])
    still = lambda mouth: np.abs(np.diff(mouth[:, :12, :12].astype(float), axis=0)).mean()
    assert still(out) < 0.3 * still(video[0])


@pytest.mark.parametrize("thing", ["hand", "microphone", "mask"])
@pytest.mark.parametrize(("severity", "share"), [(1, 0.15), (3, 0.45), (5, 0.8)])
def test_objects_cover_as_much_as_said_and_move(thing: str, severity: int, share: float) -> None:
    chequered = np.tile(np.indices((88, 88)).sum(axis=0) % 2 * 55 + 100, (12, 1, 1)).astype(np.uint8)
    backgrounds = [(one, np.ones(12, bool)) for one in (chequered, np.uint8(255) - chequered)]
    for seed in range(4):
        one, two = (spoil("occlusion", severity, video, seed, object=thing)[0].astype(int) for video in backgrounds)
        covered = (np.abs(one - two) < 28).mean(axis=(1, 2))
        assert np.all(np.abs(covered - share) < 0.09), covered
        assert not np.array_equal(one[0], one[10])
    with pytest.raises(ValueError, match="hand, microphone, mask, got 'beard'"):
        spoil("occlusion", severity, backgrounds[0], object="beard")


def test_any_object_comes_by_chance_and_skin_follows_the_light() -> None:
    bright, dark = ((np.full((1, 88, 88), level, np.uint8), np.ones(1, bool)) for level in (180, 60))
    looks = {spoil("occlusion", 5, bright, seed)[0].tobytes() for seed in range(12)}
    assert len(looks) == 12
    hands = [spoil("occlusion", 5, video, 0, object="hand")[0][0, 44, 44] for video in (bright, dark)]
    assert hands[0] > 2 * hands[1]


def test_a_turned_head_is_narrower_and_keeps_its_mouth_in_the_middle() -> None:
    mouth, valid = np.full((60, 88, 88), 120, np.uint8), np.ones(60, bool)
    mouth[:, 40:48, 40:48] = 255
    widths = []
    for severity in SEVERITIES:
        out, _ = spoil("head_turn", severity, (mouth, valid), 1)
        marked = np.flatnonzero(out[-1, 44] > 220)
        widths.append(len(marked))
        assert abs(marked.mean() - 43.5) < 2
        assert np.array_equal(out[0], mouth[0])  # it starts straight
    assert widths[0] in (7, 8) and widths[-1] <= 3 and np.all(np.diff(widths) <= 0)


def test_flicker_swings_about_the_light_there_is() -> None:
    mouth, valid = np.full((100, 88, 88), 100, np.uint8), np.ones(100, bool)
    out, _ = spoil("flicker", 3, (mouth, valid))
    levels = out.mean(axis=(1, 2))
    assert abs(levels.mean() - 100) < 5 and out.min() == 50 and out.max() == 150 and levels.std() > 10


def test_another_speaker_comes_from_another_clip_of_any_length() -> None:
    video = talking()
    for frames in (7, 60, 200):
        other = talking(frames, seed=1)
        out, seen = spoil("wrong_speaker", 5, video, other=other)
        known = {one.tobytes() for one in other[0]}
        assert seen.all() and all(one.tobytes() in known for one in out)
        steps = [next(at for at, two in enumerate(other[0]) if np.array_equal(one, two)) for one in out[:20]]
        assert max(np.abs(np.diff(steps))) <= 1  # forth and back, without a jump
    lost = (other[0], np.arange(200) % 2 == 0)
    assert spoil("wrong_speaker", 5, video, other=lost)[1].mean() == pytest.approx(0.5, abs=0.02)


def test_without_another_clip_the_own_mouth_says_something_else() -> None:
    video = talking()
    out, seen = spoil("wrong_speaker", 5, video)
    mirrored = {one[:, ::-1].tobytes() for one in video[0]}
    assert seen.all() and all(one.tobytes() in mirrored for one in out)
    assert corrupted_frames(*video, out, seen).all()
    swap = plugins.get("corruption", "wrong_speaker")(3)
    assert swap.with_other(lambda: video) is not swap and swap._other is None  # what was built stays as it is
    blur = plugins.get("corruption", "blur")(3)
    assert blur.with_other(lambda: video) is blur
