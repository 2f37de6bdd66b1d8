"""Media files in and out: decode, follow and crop the mouth, resample, write.

>>> from avse.media import open_clip, read_clip, write_enhanced
"""

from avse import compatibility
from avse.media.faces.speakers import Speaker, find_speakers
from avse.media.reader import Chunk, ClipReader, MediaInfo, open_clip, read_clip
from avse.media.writer import ClipWriter, write_enhanced

__all__ = [
    "Chunk",
    "ClipReader",
    "ClipWriter",
    "MediaInfo",
    "Speaker",
    "find_speakers",
    "open_clip",
    "read_clip",
    "write_enhanced",
]

__getattr__ = compatibility.old_names(__name__)
