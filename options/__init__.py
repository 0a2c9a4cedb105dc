"""Flags declared once as data, parsed once, saved and read back as YAML."""

from options.parse import parse_test, parse_train
from options.runs import read_options, save_options
from options.schema import Options

__all__ = ["Options", "parse_test", "parse_train", "read_options", "save_options"]
