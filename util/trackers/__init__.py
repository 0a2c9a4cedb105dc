"""Listeners that report a training run: console, files, web page and Visdom."""
