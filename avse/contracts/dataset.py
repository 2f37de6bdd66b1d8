"""Kind `dataset`: a corpus, from its own layout to a manifest."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from avse.contracts.plugin import Plugin
from avse.errors import AvseError


class Dataset(Plugin):
    """Two verbs, the same for each corpus: `download` it where it is public, `prepare` its manifest.

    Options (which speakers, which seed) are constructor arguments; folders are arguments of the verbs.

    Attributes
    ----------
    licence : str
        The terms of the corpus, in a few words.
    source : str
        Where it is published.

    Example
    -------
    >>> import tempfile
    >>> class Folder(Dataset):
    ...     def prepare(self, folder, manifest=None):
    ...         manifest = Path(manifest or Path(folder) / "manifest.csv")
    ...         manifest.write_text("id,clean\\n")
    ...         return manifest
    >>> Folder().prepare(tempfile.mkdtemp()).name
    'manifest.csv'
    """

    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @abstractmethod
    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """Write the manifest of a corpus that lies in `folder`; a corpus made by code is written there first.

        Arguments
        ---------
        folder : path
            Where the corpus is.
        manifest : path, optional
            The file to write; `folder/manifest.csv` where it is not given.

        Returns
        -------
        path
            The manifest: a CSV file with the columns of `avse.data.manifest`, files relative to it. Written whole or
            not at all; the same corpus gives the same bytes.

        Raises
        ------
        AvseError
            If the folder does not hold the corpus; says what was looked for.
        """

    def download(self, folder: str | Path) -> Path:
        """Fetch the corpus into `folder`, go on where an earlier call stopped, and check it.

        Returns
        -------
        path
            The folder to give to `prepare`.

        Raises
        ------
        AvseError
            If the corpus cannot be fetched by a program; says where to get it.
        """
        where = f" from {self.source}" if self.source else ""
        raise AvseError(f"{self.plugin_name}: get the corpus{where} by hand, then prepare its folder.")

    @classmethod
    def write_example(cls, folder: Path) -> None:
        """Write a tiny corpus with the layout of the real one into `folder`, for conformance checks.

        A corpus made by code needs none: `prepare` of `cls.example()` makes it.
        """
