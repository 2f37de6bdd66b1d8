"""Datasets of noise (`demand`, `dns_noise`, `wham`, `esc50`, `urbansound8k`), scenes (`audiocaps`) and rooms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from avse.data.manifest import Utterance
from avse.datasets.corpus import Corpus, Files, split_of
from avse.errors import AvseError
from avse.plugins import register


def _noise(name: str, path: Path, split: str, label: str, recording: str) -> Utterance:
    return Utterance(name, noise=path, split=split, kind="noise", label=label, recording=recording)


class _Noises(Corpus):
    suffixes = (".wav",)


@register("dataset", "demand")
class Demand(_Noises):
    """DEMAND: 18 places, 5 minutes each, recorded by 16 microphones, of which the first is used.

    Splits are those of the TCD-DEMAND protocol of unsupervised enhancement: five places for tests, and of the others a
    fifth, by a hash, for dev.

    Arguments
    ---------
    test : list of str
        Places of the test split.

    Paper: J. Thiemann, N. Ito, E. Vincent, The diverse environments multi-channel acoustic noise database, 2013.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Demand.write_example(folder)
    >>> Demand().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['DKITCHEN', 'noise', 'train']
    """

    licence = "CC BY-SA 3.0"
    source = "https://zenodo.org/records/1227121"
    paper = "https://doi.org/10.1121/1.4799597"
    layout = r"(?P<place>[A-Z]{4,})/ch(?P<channel>\d\d)\.wav"
    looked_for = "DKITCHEN/ch01.wav or DKITCHEN_16k/DKITCHEN/ch01.wav"
    tree = {"DKITCHEN/ch01.wav": "", "DKITCHEN/ch02.wav": "", "TBUS/ch01.wav": "", "NFIELD/ch01.wav": ""}

    def __init__(self, test: Sequence[str] = ("TMETRO", "OOFFICE", "TBUS", "STRAFFIC", "SPSQUARE")) -> None:
        self.test = test

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        place = match["place"]
        if match["channel"] != "01":
            return None
        split = "test" if place in self.test else split_of(place, 0.2, 0)
        return _noise(place, path, split, place.lower(), f"demand_{place}")


@register("dataset", "dns_noise")
class DnsNoise(_Noises):
    """The noises of the DNS challenge: 70,000 clips of AudioSet, Freesound and DEMAND.

    Clips of one video or sound are one recording: `door_Freesound_validated_11_0.wav` and `_1.wav`. Dev and test are
    one recording in fifty each, by a hash, since the challenge publishes no split of its noises.

    Paper: C. K. A. Reddy et al., The Interspeech 2020 deep noise suppression challenge, 2020.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> DnsNoise.write_example(folder)
    >>> DnsNoise().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['door_Freesound_validated_11_0', 'noise', 'train']
    """

    licence = "CC BY 4.0 and CC0, clip by clip"
    source = "https://github.com/microsoft/DNS-Challenge"
    paper = "https://arxiv.org/abs/2005.13981"
    layout = r"noise(?:_fullband)?/(?P<name>[^/]+)\.wav"
    looked_for = "datasets_fullband/noise_fullband/door_Freesound_validated_11_0.wav or datasets/noise/..."
    tree = {"noise/door_Freesound_validated_11_0.wav": "", "noise/wntLte49djU.wav": ""}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        name = match["name"]
        parts = re.fullmatch(r"(.+)_Freesound_validated_(.+)_\d+", name)
        label, recording = (parts[1], f"freesound_{parts[2]}") if parts else ("", name)
        return _noise(name, path, split_of(recording, 0.02, 0.02), label, recording)


@register("dataset", "wham")
class Wham(_Noises):
    """WHAM!: noises of cafes, restaurants, bars and parks, as segments (`wham_noise`) or whole (`high_res_wham`).

    Splits are the corpus's: folders `tr`, `cv` and `tt`, or the column `WHAM! Split` of `high_res_metadata.csv`. A file
    of the table that is absent is reported.

    Paper: G. Wichern et al., WHAM!: extending speech separation to noisy environments, Interspeech 2019.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Wham.write_example(folder)
    >>> Wham().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['cv/b', 'noise', 'dev']
    """

    licence = "CC BY-NC 4.0"
    source = "http://wham.whisper.ai"
    paper = "https://doi.org/10.21437/Interspeech.2019-2821"
    layout = r"(?:wham_noise/(?P<set>tr|cv|tt)|high_res_wham/audio)/(?P<name>[^/]+)\.wav"
    looked_for = "wham_noise/tr/011a0101_0.061105_401c020r_-0.061105.wav or high_res_wham/audio/NAME.wav"
    tree = {f"wham_noise/{split}/{name}.wav": "" for split, name in (("tr", "a"), ("cv", "b"), ("tt", "c"))}

    def start(self, files: Files) -> Mapping[str, str] | None:
        table = files.table("high_res_metadata.csv")
        self.splits = {row["Filename"].removesuffix(".wav"): row["WHAM! Split"].lower() for row in table}
        return {name: f"{name}.wav" for name in self.splits} or None

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        split = match["set"] or self.splits.get(match["name"])
        if split is None:
            raise AvseError(f"{path}: is not in high_res_metadata.csv.")
        name = f"{match['set']}/{match['name']}" if match["set"] else match["name"]
        split = {"tr": "train", "cv": "dev", "tt": "test", "valid": "dev"}.get(split, split)
        return _noise(name, path, split, "crowd", name)


class _Folds(_Noises):
    """What ESC-50 and UrbanSound8K share: a table of clips with fold, class and the recording they are cut from."""

    table: tuple[str, str, str, str]
    folds: tuple[int, int]

    def start(self, files: Files) -> Mapping[str, str] | None:
        name, clip, label, recording = self.table
        self.rows = {row[clip]: (int(row["fold"]), row[label], row[recording]) for row in files.table(name)}
        if files.paths and not self.rows:
            raise AvseError(f"{files.folder}: lacks {name}, the table of {self.plugin_name}. Name the folder above it.")
        return {clip: clip for clip in self.rows}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        if path.name not in self.rows:
            raise AvseError(f"{path}: is not in {self.table[0]}.")
        fold, label, recording = self.rows[path.name]
        split = {self.folds[0]: "dev", self.folds[1]: "test"}.get(fold, "train")
        return _noise(path.name, path, split, label, f"{self.plugin_name}_{recording}")


@register("dataset", "esc50")
class Esc50(_Folds):
    """ESC-50: 2,000 clips of 5 s in 50 classes; folds 1 to 3 are for training, 4 is dev and 5 is test.

    Paper: K. J. Piczak, ESC: dataset for environmental sound classification, ACM Multimedia 2015.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Esc50.write_example(folder)
    >>> Esc50().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['1-100032-A-0.wav', 'noise', 'train']
    """

    licence = "CC BY-NC 3.0"
    source = "https://github.com/karolpiczak/ESC-50"
    paper = "https://doi.org/10.1145/2733373.2806390"
    layout = r"audio/\d-\d+-[A-Z]-\d+\.wav"
    looked_for = "ESC-50-master/audio/1-100032-A-0.wav, with ESC-50-master/meta/esc50.csv"
    table, folds = ("meta/esc50.csv", "filename", "category", "src_file"), (4, 5)
    tree = {
        "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n5-9032-A-0.wav,5,0,dog,True,9032,A\n",
        "audio/1-100032-A-0.wav": "",
        "audio/5-9032-A-0.wav": "",
    }


@register("dataset", "urbansound8k")
class UrbanSound8k(_Folds):
    """UrbanSound8K: 8,732 clips of up to 4 s in ten classes; folds 1 to 8 are for training, 9 is dev and 10 is test.

    Paper: J. Salamon, C. Jacoby, J. P. Bello, A dataset and taxonomy for urban sound research, ACM Multimedia 2014.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> UrbanSound8k.write_example(folder)
    >>> UrbanSound8k().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['100032-3-0-0.wav', 'noise', 'train']
    """

    licence = "CC BY-NC 3.0"
    source = "https://urbansounddataset.weebly.com/urbansound8k.html"
    paper = "https://doi.org/10.1145/2647868.2655045"
    layout = r"fold\d+/\d+-\d+-\d+-\d+\.wav"
    looked_for = "UrbanSound8K/audio/fold1/101415-3-0-2.wav, with UrbanSound8K/metadata/UrbanSound8K.csv"
    table, folds = ("metadata/UrbanSound8K.csv", "slice_file_name", "class", "fsID"), (9, 10)
    tree = {
        "metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.4,1,1,3,dog_bark\n7383-3-0-0.wav,7383,0.0,0.4,1,10,3,dog_bark\n",
        "audio/fold1/100032-3-0-0.wav": "",
        "audio/fold10/7383-3-0-0.wav": "",
    }


@register("dataset", "audiocaps")
class AudioCaps(Corpus):
    """AudioCaps: 10 s of AudioSet with a caption each, for embeddings of scenes (kind `scene`, column `text`).

    The corpus is lists, `train.csv`, `val.csv` and `test.csv` (audiocap_id, youtube_id, start_time, caption); the clips
    are those of YouTube, and some are gone. `prepare` takes sounds or videos, in any folders, that are named after the
    clip (`youtube_id`, `Yyoutube_id`, `youtube_id_start`, also with an end) or after `audiocap_id`. A sound beside a
    video of its name is the sound of that video. Splits are the corpus's; the first caption of a clip is its text.

    Paper: C. D. Kim et al., AudioCaps: generating captions for audios in the wild, NAACL 2019.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> AudioCaps.write_example(folder)
    >>> AudioCaps().prepare(folder).read_text().splitlines()[3].split(",")[:3]
    ['bbbbbbbbbbb_30', 'scene', 'dev']
    """

    licence = "MIT (the captions)"
    source = "https://github.com/cdjkim/audiocaps"
    paper = "https://doi.org/10.18653/v1/N19-1011"
    suffixes = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".mp4", ".mkv", ".webm")
    layout = r"(?P<name>[^/]+)\.(?:wav|flac|mp3|ogg|m4a|(?P<video>mp4|mkv|webm))"
    looked_for = "train/Yr1nicOVtvkQ.wav or train/r1nicOVtvkQ_130.wav, with train.csv, val.csv and test.csv"
    tree = {
        "train.csv": "audiocap_id,youtube_id,start_time,caption\n91139,aaaaaaaaaaa,130,Rain on a roof\n",
        "val.csv": "audiocap_id,youtube_id,start_time,caption\n7,bbbbbbbbbbb,30,A dog barks\n8,bbbbbbbbbbb,30,A dog\n",
        "test.csv": "audiocap_id,youtube_id,start_time,caption\n9,ccccccccccc,0,Wind\n",
        "val/bbbbbbbbbbb_30.wav": "",
        "test/9.mp4": "",
        "train/Yaaaaaaaaaaa.wav": "",
    }

    def start(self, files: Files) -> Mapping[str, str] | None:
        self.clips: dict[str, tuple[str, str, str, str]] = {}  # by each name that a file may have
        for name, split in (("train", "train"), ("val", "dev"), ("validation", "dev"), ("test", "test")):
            for cells in files.table(f"{name}.csv"):
                if not {"youtube_id", "start_time", "caption"} <= cells.keys():
                    raise AvseError(f"{files.folder}: {name}.csv lacks the columns youtube_id, start_time, caption.")
                video, start = cells["youtube_id"], cells["start_time"].removesuffix(".0")
                clip = self.clips.setdefault(f"{video}_{start}", (f"{video}_{start}", split, video, cells["caption"]))
                self.clips.setdefault(video, clip)
                self.clips.setdefault(cells.get("audiocap_id", video), clip)
        if files.paths and not self.clips:
            raise AvseError(
                f"{files.folder}: lacks train.csv, val.csv and test.csv of audiocaps. Put them beside the clips."
            )
        return {clip[0]: clip[0] for clip in self.clips.values()}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        names = [match["name"], match["name"].removeprefix("Y")]
        names += [re.sub(r"_\d+(?:\.\d+)?$", "", name) for name in names]  # with an end, or a start in other units
        names += [re.sub(r"_\d+(?:\.\d+)?$", "", name) for name in names[2:]]
        clip = next((self.clips[name] for name in names if name in self.clips), None)
        if clip is None:
            raise AvseError(f"{path}: is in none of the lists of the corpus.")
        beside = [path.with_suffix(suffix) for suffix in self.suffixes]
        sounds, videos = ([one for one in part if one.is_file()] for part in (beside[:5], beside[5:]))
        if videos and not match["video"]:
            return None
        name, split, video, caption = clip
        return Utterance(
            name,
            noise=sounds[0] if sounds else path,
            video=path if match["video"] else None,
            split=split,
            kind="scene",
            text=caption,
            recording=f"audiocaps_{video}",
        )


def _response(name: str, path: Path, room: str) -> Utterance:
    """A room impulse response: a fifth each of the rooms is dev and test, by a hash."""
    return Utterance(name, noise=path, split=split_of(room), kind="room", recording=room)


@register("dataset", "openslr28")
class OpenSlr28(_Noises):
    """OpenSLR 28: simulated and measured room impulse responses (kind `room`) and noises of points (kind `noise`).

    `RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav`; measured ones and the rooms they belong to from
    `real_rirs_isotropic_noises/rir_list`; `pointsource_noises/noise-free-sound-0000.wav`. No room is in two splits.
    `avse.data.rooms.MeasuredRooms` puts training mixtures into them.

    Arguments
    ---------
    simulated : bool
        Also list the 60,000 simulated responses.

    Paper: T. Ko et al., A study on data augmentation of reverberant speech for robust speech recognition, ICASSP 2017.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> OpenSlr28.write_example(folder)
    >>> OpenSlr28().prepare(folder).read_text().splitlines()[1].split(",")[:2]
    ['noise-free-sound-0000', 'noise']
    """

    licence = "Apache-2.0"
    source = "https://www.openslr.org/28/"
    paper = "https://doi.org/10.1109/ICASSP.2017.7953152"
    layout = (
        r"(?:simulated_rirs/(?P<size>\w+)/(?P<room>Room\d+)|(?P<real>real_rirs_isotropic_noises)|pointsource_noises)/"
        r"(?P<name>[^/]+)\.wav"
    )
    looked_for = "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav"
    tree = {
        "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav": "",
        "RIRS_NOISES/real_rirs_isotropic_noises/air_type1_air_binaural_office_0_1.wav": "",
        "RIRS_NOISES/real_rirs_isotropic_noises/rir_list": "--rir-id 00001 --room-id air_office "
        "RIRS_NOISES/real_rirs_isotropic_noises/air_type1_air_binaural_office_0_1.wav\n",
        "RIRS_NOISES/pointsource_noises/noise-free-sound-0000.wav": "",
    }

    def __init__(self, simulated: bool = True) -> None:
        self.simulated = simulated

    def start(self, files: Files) -> None:
        lines = (line.split() for line in files.lines("real_rirs_isotropic_noises/rir_list"))
        self.rooms = {Path(line[-1]).stem: line[3] for line in lines if len(line) >= 5}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        name = match["name"]
        if match["real"]:  # noises of rooms that were measured lie beside the responses
            return _response(name, path, self.rooms[name]) if name in self.rooms else None
        if match["room"]:
            return (
                _response(f"{match['size']}/{name}", path, f"{match['size']}/{match['room']}")
                if self.simulated
                else None
            )
        return _noise(name, path, split_of(name), "", name)


@register("dataset", "but_reverbdb")
class ButReverbDb(_Noises):
    """BUT Speech@FIT ReverbDB: room impulse responses measured in nine rooms (kind `room`), and their silence.

    `VUT_FIT_L207/MicID01/SpkID01_20170901_S/01/RIR/IR_sweep_15s_45Hzto22kHz_FS16kHz.v00.wav`, and
    `.../silence/silence_16kHz_60sec.wav` as noise (kind `noise`). No room is in two splits; with nine rooms, they are
    named.

    Arguments
    ---------
    dev, test : list of str
        Rooms of these splits.

    Paper: I. Szoke et al., Building and evaluation of a real room impulse response dataset, IEEE JSTSP 13, 2019.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> ButReverbDb.write_example(folder)
    >>> ButReverbDb().prepare(folder).read_text().splitlines()[1].split(",")[1:3]
    ['room', 'train']
    """

    licence = "CC BY 4.0"
    source = "https://speech.fit.vut.cz/software/but-speech-fit-reverb-database"
    paper = "https://doi.org/10.1109/JSTSP.2019.2917582"
    layout = r"(?P<room>[^/]+)/(?P<mic>MicID\d+)/(?P<place>SpkID[^/]+/\d+)/(?P<kind>RIR|silence)/(?P<name>[^/]+)\.wav"
    looked_for = "VUT_FIT_L207/MicID01/SpkID01_20170901_S/01/RIR/IR_sweep_15s_45Hzto22kHz_FS16kHz.v00.wav"
    tree = {
        f"VUT_FIT_L207/MicID01/SpkID01_20170901_S/01/{name}.wav": ""
        for name in ("RIR/IR_sweep_15s_45Hzto22kHz_FS16kHz.v00", "silence/silence_16kHz_60sec.v00")
    }

    def __init__(
        self, dev: Sequence[str] = ("VUT_FIT_L212",), test: Sequence[str] = ("VUT_FIT_Q301", "VUT_FIT_C236")
    ) -> None:
        self.dev, self.test = dev, test

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        room = match["room"]
        split = "test" if room in self.test else "dev" if room in self.dev else "train"
        name = f"{room}/{match['mic']}/{match['place']}/{match['name']}"
        kind, label = ("room", "") if match["kind"] == "RIR" else ("noise", "room_noise")
        return Utterance(name, noise=path, split=split, kind=kind, label=label, recording=f"but_{room}")
