"""Pictures in files: 8 and 16 bit, with alpha, EXIF and ICC profile, read and written back as the same kind.

``docs/images.md`` has the table of what is read and written for each kind of file.
"""

from __future__ import annotations

from util.pictures.decoding import MODES, Size, UnreadablePicture, picture_size, read_eight_bit, read_picture
from util.pictures.encoding import write_picture
from util.pictures.picture import SUFFIXES, Metadata, Picture

__all__ = [
    "MODES",
    "SUFFIXES",
    "Metadata",
    "Picture",
    "Size",
    "UnreadablePicture",
    "picture_size",
    "read_eight_bit",
    "read_picture",
    "write_picture",
]
