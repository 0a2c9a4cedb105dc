"""Trackers report a training run: console, files, web page, Visdom, TensorBoard and W&B."""
