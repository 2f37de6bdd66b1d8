"""Who is seen: what the mouths of known people look like on average, and those of anybody."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

_SIZE = 16  # of a picture, in pixels
_GLANCE, _SEEN = 25, 20  # frames of a clip from which is learned, and how many of them must be valid
_SHRINKAGE = 0.005  # of covariances towards equal variances, chosen by telling each talker of training from the others
_FLOOR = 1e-5  # of the mean variance of a pixel, white being 1


class MouthGallery(nn.Module):
    """Known people and anybody, each a Gaussian of pictures; learned by counting.

        look | person k   ~ N(m_k, W)    W: how pictures of one person differ
        look | anybody    ~ N(m, T)      T: how pictures of all people differ

    A look is the mean picture of the mouth over a clip, 16 x 16 pixels, less its brightness. What is kept are counts
    and sums, to which every call of `learn` adds; both covariances are shrunk a little towards equal variances.

    Arguments
    ---------
    people : int
        How many are known.

    Example
    -------
    >>> looks = MouthGallery(2)
    >>> mouth = torch.randint(0, 256, (6, 25, 88, 88), generator=torch.Generator().manual_seed(0)).byte()
    >>> mouth[::2, :, :40] = 0
    >>> looks.learn(mouth, torch.ones(6, 25), [0, 1, 0, 1, 0, 1])
    >>> looks(looks.of(mouth, torch.ones(6, 25))).argmax(dim=1).tolist()  # 0 is anybody
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
    def of(mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Looks of clips.

        Arguments
        ---------
        mouth : tensor, shape (batch, video_frames, height, width), uint8
        valid : tensor, shape (batch, video_frames)
            Frames to look at.

        Returns
        -------
        tensor, shape (batch, 256)
            Zero where there is no such frame.
        """
        weight = valid.float()
        # Clip by clip, since a batch of films is large.
        mean = torch.stack([(w[:, None, None] * frames.float()).sum(dim=0) for w, frames in zip(weight, mouth)])
        mean = mean / (255.0 * weight.sum(dim=1).clamp(min=1.0)[:, None, None])
        picture = F.adaptive_avg_pool2d(mean[:, None], _SIZE).flatten(1)
        return picture - picture.mean(dim=1, keepdim=True)

    @torch.no_grad()
    def learn(self, mouth: torch.Tensor, valid: torch.Tensor, who: Sequence[int]) -> None:
        """Add the first second of clips to what is known; one with less than 0.8 s of valid frames in it adds nothing.

        The mean of a few frames shows what is said rather than who says it.

        Arguments
        ---------
        mouth : tensor, shape (batch, video_frames, height, width), uint8
        valid : tensor, shape (batch, video_frames)
        who : sequence of int
            The person of each.
        """
        seen = [row for row in range(len(who)) if int(valid[row, :_GLANCE].sum()) >= _SEEN]
        if not seen:
            return
        looks = self.of(mouth[seen, :_GLANCE], valid[seen, :_GLANCE]).to(self.total)
        whose = F.one_hot(torch.tensor([who[row] for row in seen]), len(self.count)).to(looks)
        self.count += whose.sum(dim=0)
        self.total += whose.T @ looks
        self.products += looks.T @ looks

    def forward(self, looks: torch.Tensor) -> torch.Tensor:
        """Log-likelihoods of looks.

        Arguments
        ---------
        looks : tensor, shape (batch, 256)

        Returns
        -------
        tensor, shape (batch, 1 + people), float64
            First that of anybody, then those of the known; less something that all have in common. Zeros where nothing
            was learned yet; of a person never seen, minus infinity.
        """
        looks, count, total = looks.double(), self.count.double(), self.total.double()
        if len(count.nonzero()) < 2:
            return looks.new_zeros(len(looks), 1 + len(count))
        all_of_them = count.sum()
        mean, means = total.sum(dim=0) / all_of_them, total / count.masked_fill(count == 0, 1.0)[:, None]
        second = self.products.double() / all_of_them
        found = [_log_density(looks, mean[None], second - torch.outer(mean, mean))]
        within = second - (means.T * (count / all_of_them)) @ means
        known = _log_density(looks, means, within)
        found.append(known.masked_fill(count == 0, -torch.inf))
        return torch.cat(found, dim=1)


def _log_density(value: torch.Tensor, means: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Of Gaussians with a shrunk covariance: (batch, dim), (people, dim) and (dim, dim) to (batch, people)."""
    variance = covariance.diagonal().mean().clamp(min=_FLOOR)
    eye = torch.eye(len(covariance)).to(covariance)
    root = torch.linalg.cholesky(covariance + _SHRINKAGE * variance * eye)
    apart = (value[:, None] - means).flatten(0, 1)
    distance = torch.linalg.solve_triangular(root, apart.T, upper=False).square().sum(dim=0)
    return -0.5 * distance.view(len(value), len(means)) - root.diagonal().log().sum()
