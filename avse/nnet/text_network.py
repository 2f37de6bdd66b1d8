"""A small transformer over the pieces of a SentencePiece tokenizer, both learned from a list of captions."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from avse.errors import AvseError

_PADDING, _UNKNOWN = 0, 1
_LONGEST = 32  # pieces of a text that are read
_MASKED = 0.15


class TextNetwork(nn.Module):
    """Pieces of a text to one vector: a transformer, the mean over pieces, and a linear layer.

    The tokenizer is learned by `learn_pieces` and kept with the weights. `masked_loss` trains on texts alone.

    Arguments
    ---------
    output_dim : int
    pieces : int
        Most pieces of the tokenizer.
    dim, layers, heads : int
        Of the transformer.
    dropout : float

    Papers: Kudo, Subword regularization, ACL 2018 (the pieces); Vaswani et al., Attention is all you need, 2017.

    Example
    -------
    >>> network = TextNetwork(output_dim=4, pieces=40, dim=8, heads=2).eval()
    >>> network.learn_pieces(["rain on a roof", "a dog barks", "rain and wind", "a dog in the rain"])
    >>> network(network.tokens(["a dog", "rain"])).shape
    torch.Size([2, 4])
    """

    def __init__(
        self, output_dim: int, pieces: int = 2000, dim: int = 128, layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.pieces, self._model = pieces, b""
        self.embed = nn.Embedding(pieces + 1, dim)  # the last stands for what is masked
        self.places = nn.Parameter(0.02 * torch.randn(_LONGEST, dim))
        nn.init.normal_(self.embed.weight, std=0.05)
        block = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(block, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.leave = nn.Linear(dim, output_dim)

    def get_extra_state(self) -> torch.Tensor:
        """The tokenizer, as bytes."""
        return torch.tensor(list(self._model), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take over a tokenizer."""
        self._model = bytes(state.byte().tolist())

    def learn_pieces(self, texts: Sequence[str]) -> None:
        """Learn the tokenizer from texts, unless it was learned."""
        import sentencepiece

        if self._model:
            return
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text.lower() for text in texts]),
            model_writer=written,
            vocab_size=self.pieces,
            hard_vocab_limit=False,
            pad_id=_PADDING,
            unk_id=_UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        self._model = written.getvalue()

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Numbers of the known pieces of texts, shape (texts, 32), zero beyond the last; all zero where none is known.

        Raises
        ------
        AvseError
            If the tokenizer was not learned.
        """
        import sentencepiece

        if not self._model:
            raise AvseError("The tokenizer of the text network was not learned. Train the embedding first.")
        processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        space = processor.piece_to_id("▁")
        numbers = torch.zeros(len(texts), _LONGEST)
        for row, found in zip(numbers, processor.encode([text.lower() for text in texts])):
            kept = [number for number in found if number not in (_UNKNOWN, space)][:_LONGEST]
            row[: len(kept)] = torch.tensor(kept)
        return numbers

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Of tokens (texts, pieces), each with one that is not zero, shape (texts, output_dim)."""
        tokens = tokens[:, : int((tokens > 0).sum(dim=1).max())].long()
        known = (tokens != _PADDING)[..., None]
        hidden = self._encoded(tokens)
        return self.leave((hidden * known).sum(dim=1) / known.sum(dim=1).clamp(min=1))

    def masked_loss(self, tokens: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of pieces that are masked at random, a scalar.

        Paper: Devlin et al., BERT: pre-training of deep bidirectional transformers, NAACL 2019.
        """
        tokens = tokens[:, : int((tokens > 0).sum(dim=1).max())].long()
        masked = (torch.rand(tokens.shape, device=tokens.device) < _MASKED) & (tokens != _PADDING)
        hidden = self._encoded(tokens.masked_fill(masked, self.pieces))
        logits = hidden[masked] @ self.embed.weight[: self.pieces].T
        return F.cross_entropy(logits, tokens[masked], reduction="sum") / masked.sum().clamp(min=1)

    def _encoded(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens) + self.places[: tokens.shape[1]]
        return self.layers(hidden, src_key_padding_mask=tokens == _PADDING)
