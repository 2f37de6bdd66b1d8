"""What spectra of noise are worth, by where they are from: measures why a description is worth little.

    python recipes/Scenes/spectra_of_noise.py MIXTURES SCENES MANIFEST CAPTIONS -o RESULTS.json

Two spectra are fitted to a recording of noise. In `langevin` with `prior_nmf` the fit of the clip begins at them, or
they are held while gains alone are fitted, without or with two free ones beside them. MIXTURES are those of `avse mix`
from SCENES, whose column `sources` says from which sample of which recording a noise is: recorded noise at -5 dB,
audio alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from conditioned_nmf import FREE, INFERENCES, Descriptions, Sources, gains_of

import avse
from avse import plugins
from avse.contracts.noise_model import State
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.evaluation.statistics import bootstrap_means
from avse.files import write_json
from avse.noise_models.factorised import FactorisedNoise
from avse.noise_models.prior_nmf import PriorNMF
from avse.signal.nmf import update_ratio
from avse.signal.stft import stft

RANK, MANY, FFT, HOP, LEAST, SECONDS = 2, 8, 1024, 256, 1e-7, 4
FITS = ("begins", "held", "held, free")
GAIN_ITERATIONS, SPECTRA_ITERATIONS = 40, 60


class GivenSpectra(PriorNMF):
    """`prior_nmf` that is given spectra by the scene, (batch, rank x bins); zeros give none.

    `begins`: the fit begins at them. `held`: gains alone are fitted. `held, free`: two further spectra are free.
    """

    def __init__(self, given: int, fit: str) -> None:
        super().__init__(RANK if fit.endswith("free") else given)
        self.given, self.held = given, given * fit.startswith("held")
        self.free = fit.endswith("free")

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        prior = super().initial_state(power, mask)
        assert scene is not None
        given, says = scene.unflatten(1, (self.given, -1)), scene.any(dim=1)[:, None, None]
        nothing = torch.full((*power.shape[:2], self.given), LEAST)
        if self.free:
            prior = {
                "gains": torch.cat([nothing, prior["gains"]], 2),
                "spectra": torch.cat([given, prior["spectra"]], 1),
            }
            given = prior["spectra"]
        spectra = torch.where(says, given, prior["spectra"])
        gains = fitted_gains(self.estimator(power, mask) * mask[..., None], spectra.clamp(min=1e-12), mask)
        return {"gains": torch.where(says, gains, prior["gains"]), "spectra": spectra, "says": says.to(power)}

    def factors(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        moved, spectra = super().factors(state, numerator, denominator), state["spectra"]
        if not self.held:
            return moved
        gains = (state["gains"] * update_ratio(numerator @ spectra.mT, denominator @ spectra.mT, 0.5)).clamp(min=1e-10)
        held = {
            "gains": torch.cat([gains[..., : self.held], moved["gains"][..., self.held :]], 2),
            "spectra": torch.cat([spectra[:, : self.held], moved["spectra"][:, self.held :]], 1),
        }
        return moved | {name: torch.where(state["says"] > 0, held[name], moved[name]) for name in held}


def fitted_gains(power: torch.Tensor, spectra: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Gains of spectra, (batch, frames, rank), fitted to a power."""
    rank = spectra.shape[1]
    gains = (power.sum(dim=-1, keepdim=True) / rank + LEAST).expand(-1, -1, rank)
    for _ in range(GAIN_ITERATIONS):
        weight = mask[..., None] / (gains @ spectra).clamp(min=1e-10)
        gains = gains * update_ratio((power * weight.square()) @ spectra.mT, weight @ spectra.mT, 0.5)
    return gains.clamp(min=1e-10)


def power_of(samples: np.ndarray) -> torch.Tensor:
    """Of noise, (1, frames, bins)."""
    power = stft(torch.as_tensor(np.ascontiguousarray(samples, dtype=np.float32))[None], FFT, HOP).abs().square()
    return power / power.mean().clamp(min=1e-12) + LEAST


def spectra_of(samples: np.ndarray, rank: int = RANK) -> torch.Tensor:
    """Spectra of noise, (rank, bins)."""
    power = power_of(samples)
    model, mask = FactorisedNoise(rank), torch.ones(power.shape[:2], dtype=torch.bool)
    state = model.initial_state(power, mask)
    for _ in range(SPECTRA_ITERATIONS):
        weight = model.variance(state).reciprocal()
        state = model.update(state, power * weight.square(), weight)
    return state["spectra"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mixtures", "scenes", "manifest", "captions"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    told = Descriptions(asked.manifest, asked.captions)
    rows = [row for row in read_manifest(asked.mixtures) if row.extra.get("condition") == "recorded" and row.snr == -5]
    rows.sort(key=lambda row: row.duration or 0)
    audio = [[read_audio(path) for path in (row.noisy, row.clean, row.noise)] for row in rows]
    sources = Sources(asked.scenes, asked.manifest)
    known = [row for row in sources.recordings.values() if row.split == "train"]
    sounds = [read_audio(row.audio)[: SECONDS * 16000] for row in known]
    kept = [place for place, sound in enumerate(sounds) if len(sound) > 4000 and np.abs(sound).max() > 1e-4]
    known, sounds = [known[place] for place in kept], [sounds[place] for place in kept]
    names = np.array([told.name(row.label) for row in known])

    @cache
    def vectors() -> torch.Tensor:
        return torch.stack([told.sound(sound) for sound in sounds])

    own = [np.flatnonzero(names == told.name(row.label)) for row in rows]

    def nearest(place: int, asked: torch.Tensor) -> torch.Tensor:
        return together((vectors() @ asked).topk(3).indices.tolist())

    def together(places: Sequence[int]) -> torch.Tensor:
        if not len(places):
            return torch.zeros(MANY, FFT // 2 + 1)
        parts = [sounds[place][: max(HOP * 40, HOP * 600 // len(places))] for place in places]
        return spectra_of(np.concatenate([part / np.sqrt(np.square(part).mean() + 1e-9) for part in parts]), MANY)

    def other_class(place: int) -> list[int]:
        drawn = str(np.random.default_rng(place).choice(sorted({*names} - {told.name(rows[place].label)})))
        return np.flatnonzero(names == drawn).tolist()

    def others(place: int, rank: int) -> torch.Tensor:
        found = rest[place]
        return torch.zeros(rank, FFT // 2 + 1) if found is None else spectra_of(found, rank)

    rest = [sources.other_seconds(row, each[2]) for row, each in zip(rows, audio)]
    kinds: dict[str, tuple[Callable[[int], torch.Tensor], Sequence[str]]] = {
        "the noise of the clip": (lambda at: spectra_of(audio[at][2]), FITS[:2]),
        "the noise of the clip, 8 spectra": (lambda at: spectra_of(audio[at][2], MANY), FITS[:2]),
        "other seconds of the recording": (lambda at: others(at, RANK), FITS[:2]),
        "other seconds of the recording, 8 spectra": (lambda at: others(at, MANY), FITS),
        "all of its class in training, 8 spectra": (lambda at: together(own[at]), FITS[1:]),
        "all of another class in training, 8 spectra": (lambda at: together(other_class(at)), FITS[1:]),
        "three in training nearest to the noise, 8 spectra": (
            lambda at: nearest(at, told.sound(audio[at][2])),
            FITS[1:],
        ),
        "three in training nearest to the noisy audio, 8 spectra": (
            lambda at: nearest(at, told.sound(audio[at][0])),
            FITS[2:],
        ),
        "other seconds of the recording, 16 spectra": (lambda at: others(at, 2 * MANY), FITS[1:]),
    }
    prior, inference = avse.load("av-vae").system.prior, plugins.get("inference", "langevin")
    about = {"provenance": "Measured by recipes/Scenes/spectra_of_noise.py"}
    cells = json.loads(asked.output.read_text())["cells"] if asked.output.exists() else []
    done = {(cell["system"], cell["fit"]) for cell in cells}
    speakers = [row.speaker for row in rows]

    def gained(model: torch.nn.Module, scenes: list[torch.Tensor] | None, **how: float) -> np.ndarray:
        return gains_of(inference(prior, model, seed=0, **INFERENCES["langevin"] | how), audio, scenes)

    none = gained(PriorNMF(RANK), None)

    def add(system: str, fit: str, model: torch.nn.Module, scenes: list[torch.Tensor] | None, **how: float) -> None:
        if (system, fit) in done:
            return
        found = gained(model, scenes, **how)
        for metric, values in {"si_sdr_improvement": found, "over none": found - none}.items():
            [interval] = bootstrap_means(values[:, None], speakers)
            cells.append({"system": system, "fit": fit, "metric": metric, **asdict(interval)})
        print(f"{system}, {fit}: {found.mean():.2f} dB", flush=True)
        write_json(asked.output, about | {"cells": cells})

    add("none", "", PriorNMF(RANK), None)
    add("none (`nmf`)", "", plugins.get("noise_model", "nmf")(rank=2), None, **FREE["langevin"])
    network = plugins.get("noise_model", "conditioned_nmf")()
    add("network, told the text", "", network, [told.of("text", row.label.replace("_", " ")) for row in rows])
    add("network, told the noise", "", network, [told.sound(noise) for _, _, noise in audio])
    for name, (of, fits) in kinds.items():
        if not {(name, fit) for fit in fits} <= done:
            given = [of(place) for place in range(len(rows))]
            for fit in fits:
                add(name, fit, GivenSpectra(len(given[0]), fit), [one.flatten() for one in given])


if __name__ == "__main__":
    main()
