"""Inference: images and videos → the same files without rain, under the same names.

``run`` is the whole job with its page. ``inputs`` finds files and gives each its place, ``pipeline`` reads ahead and
writes behind the network, ``pictures`` and ``video`` do the two kinds, ``ffmpeg`` reads and writes a video's frames.
"""
