"""Media files in and out: decode, follow and crop the mouth, resample, write.

>>> from avse.media import open_clip, read_clip, write_enhanced
"""

from avse.media.faces.speakers import Talker, find_talkers
from avse.media.reader import Chunk, ClipReader, MediaInfo, open_clip, read_clip
from avse.media.writer import ClipWriter, write_enhanced

__all__ = [
    "Chunk",
    "ClipReader",
    "ClipWriter",
    "MediaInfo",
    "Talker",
    "find_talkers",
    "open_clip",
    "read_clip",
    "write_enhanced",
]
