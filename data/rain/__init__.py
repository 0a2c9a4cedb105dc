"""Synthetic rain on clean photographs.

``streaks``    the renderer: a streak pattern out of sprites and filtered grain
``formation``  the RainCityscapes equation: pattern, depth and fog put together
``depth``      depth in meters: from files, or a simple road scene
``presets``    which rain is drawn for an image: light, medium, heavy, mixed
``synthesis``  one rainy image out of one clean image, as a pure function
``dataset``    a whole dataset of them on disk, written by several processes, completely or not at all
"""
