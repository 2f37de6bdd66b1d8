"""Kind `dataset`: a corpus, from its own layout to a manifest."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from avse.contracts.plugin import Plugin
from avse.errors import AvseError


class Dataset(Plugin):
    """A corpus that can be downloaded, if it is public, and whose manifest can be prepared.

    Options (speakers, seed) are constructor arguments; folders are arguments of `download` and `prepare`.

    Attributes
    ----------
    licence : str
        The terms of the corpus, in a few words.
    source : str
        Where the corpus is published.

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
        """Write the manifest of the corpus in `folder`; a generated corpus is written there first.

        Arguments
        ---------
        folder : path
            The folder of the corpus.
        manifest : path, optional
            The file to write; by default `folder/manifest.csv`.

        Returns
        -------
        path
            The manifest: a CSV file with the columns of `avse.data.manifest`, files relative to it. It is
            written completely or not at all; the same corpus gives the same bytes.

        Raises
        ------
        AvseError
            If the corpus is not in the folder, with the names of the expected files.
        """

    def download(self, folder: str | Path) -> Path:
        """Download the corpus into `folder`, continuing an interrupted download, and check it.

        Returns
        -------
        path
            The folder for `prepare`.

        Raises
        ------
        AvseError
            If the corpus cannot be downloaded by a program, with its source.
        """
        where = f" from {self.source}" if self.source else ""
        raise AvseError(f"{self.plugin_name}: get the corpus{where} by hand, then prepare its folder.")

    @classmethod
    def write_example(cls, folder: Path) -> None:
        """Write a tiny corpus with the layout of the real one into `folder`, for conformance checks.

        A generated corpus needs none: `prepare` of `cls.example()` writes it.
        """
