"""Kind `enhancer`: a supervised network from noisy audio and video to the speech."""

from __future__ import annotations

from avse.contracts.system import System


class Enhancer(System):
    """A network that maps a `Batch` to an `Estimate` in one pass; see `System`.

    Attributes
    ----------
    scene_dim : int
        Features of the embedding of the noise that it takes in `Batch.scene`; 0: it takes none. A row of zeros says
        nothing: the result is then bit for bit that without a scene.
    """

    scene_dim: int = 0
