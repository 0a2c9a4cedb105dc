"""Just derain: pictures and videos as they lie there → the same without rain, under the same names.

``inputs`` finds files and gives each its place, ``pipeline`` reads ahead and writes behind the network, ``pictures``
and ``video`` do the two kinds, ``page`` shows input and result side by side.
"""
