"""Media files in and out: decode, follow and crop the mouth, resample, write.

>>> from avse.media import read_clip, open_clip
"""

from avse.media.reader import Chunk, ClipReader, MediaInfo, open_clip, read_clip

__all__ = ["Chunk", "ClipReader", "MediaInfo", "open_clip", "read_clip"]
