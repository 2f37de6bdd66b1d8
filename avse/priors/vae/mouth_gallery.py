"""Mouth gallery: Gaussians of the mean mouth images of known speakers, and of all people."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

_SIZE = 16  # of an image, in pixels
_FRAMES, _LEAST_VALID = 25, 20  # of a clip that are used for learning, and how many of them must be valid
_SHRINKAGE = 0.005  # of covariances towards equal variances, chosen by identifying the speakers of the training set
_FLOOR = 1e-5  # of the mean variance of a pixel, white being 1


class MouthGallery(nn.Module):
    """Likelihoods of a mouth image for each known speaker and for an unknown one, each a Gaussian.

        image | speaker k    ~ N(m_k, W)    W: covariance within speakers
        image | unknown      ~ N(m, T)      T: covariance over all people

    An image is the mean of the mouth crops of a clip, 16 x 16 pixels, less its mean. The buffers hold counts and sums,
    to which every call of `learn` adds; both covariances are shrunk a little towards equal variances.

    Arguments
    ---------
    people : int
        How many are known.

    Example
    -------
    >>> gallery = MouthGallery(2)
    >>> mouth = torch.randint(0, 256, (6, 25, 88, 88), generator=torch.Generator().manual_seed(0)).byte()
    >>> mouth[::2, :, :40] = 0
    >>> gallery.learn(mouth, torch.ones(6, 25), [0, 1, 0, 1, 0, 1])
    >>> gallery(gallery.images(mouth, torch.ones(6, 25))).argmax(dim=1).tolist()  # 0: unknown
    [1, 2, 1, 2, 1, 2]
    """

    count: torch.Tensor
    total: torch.Tensor
    products: torch.Tensor

    def __init__(self, people: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(people, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(people, _SIZE**2, dtype=torch.float64))
        self.register_buffer("products", torch.zeros(_SIZE**2, _SIZE**2, dtype=torch.float64))

    @staticmethod
    def images(mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Mean mouth images of clips over their valid frames, shape (batch, 256); zero where there is none."""
        weight = valid.float()
        # Clip by clip, to save memory.
        mean = torch.stack([(w[:, None, None] * frames.float()).sum(dim=0) for w, frames in zip(weight, mouth)])
        mean = mean / (255.0 * weight.sum(dim=1).clamp(min=1.0)[:, None, None])
        image = F.adaptive_avg_pool2d(mean[:, None], _SIZE).flatten(1)
        return image - image.mean(dim=1, keepdim=True)

    @torch.no_grad()
    def learn(self, mouth: torch.Tensor, valid: torch.Tensor, who: Sequence[int]) -> None:
        """Add the first second of clips; one with less than 0.8 s of valid frames in it adds nothing.

        The mean of a few frames depends more on what is said than on the speaker. `who` is the number of each speaker.
        """
        rows = [row for row in range(len(who)) if int(valid[row, :_FRAMES].sum()) >= _LEAST_VALID]
        if not rows:
            return
        images = self.images(mouth[rows, :_FRAMES], valid[rows, :_FRAMES]).to(self.total)
        speaker = F.one_hot(torch.tensor([who[row] for row in rows]), len(self.count)).to(images)
        self.count += speaker.sum(dim=0)
        self.total += speaker.T @ images
        self.products += images.T @ images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-likelihoods of images, up to a constant: (batch, 256) to (batch, 1 + people), float64.

        First that of an unknown speaker, then those of the known ones. Zeros where nothing was learned yet; minus
        infinity for a speaker without a clip.
        """
        images, count, total = images.double(), self.count.double(), self.total.double()
        if len(count.nonzero()) < 2:
            return images.new_zeros(len(images), 1 + len(count))
        clips = count.sum()
        mean, means = total.sum(dim=0) / clips, total / count.masked_fill(count == 0, 1.0)[:, None]
        second = self.products.double() / clips
        unknown = _log_density(images, mean[None], second - torch.outer(mean, mean))
        within = second - (means.T * (count / clips)) @ means
        known = _log_density(images, means, within).masked_fill(count == 0, -torch.inf)
        return torch.cat([unknown, known], dim=1)


def _log_density(value: torch.Tensor, means: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Of Gaussians with a shrunk covariance: (batch, dim), (people, dim) and (dim, dim) to (batch, people)."""
    variance = covariance.diagonal().mean().clamp(min=_FLOOR)
    eye = torch.eye(len(covariance)).to(covariance)
    root = torch.linalg.cholesky(covariance + _SHRINKAGE * variance * eye)
    apart = (value[:, None] - means).flatten(0, 1)
    distance = torch.linalg.solve_triangular(root, apart.T, upper=False).square().sum(dim=0)
    return -0.5 * distance.view(len(value), len(means)) - root.diagonal().log().sum()
