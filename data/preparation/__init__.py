"""Preparing published deraining sets for training: from what one downloads to trainA, trainB, testA and testB."""

from __future__ import annotations

from data.preparation.layouts import LAYOUTS
from data.preparation.prepare import Prepared, Request, prepare
from data.preparation.splitting import Share

__all__ = ["LAYOUTS", "Prepared", "Request", "Share", "prepare"]
