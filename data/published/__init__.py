"""Preparing published deraining sets for training: from what one downloads to trainA, trainB, testA and testB."""

from __future__ import annotations

from data.published.layouts import LAYOUTS
from data.published.prepare import Prepared, Request, prepare
from data.published.splitting import Share

__all__ = ["LAYOUTS", "Prepared", "Request", "Share", "prepare"]
