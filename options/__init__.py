"""Flags declared once as data, parsed once, saved and read back as YAML."""

from options.files import read_options, save_options
from options.namespace import Options
from options.parser import parse_test, parse_train

__all__ = ["Options", "parse_test", "parse_train", "read_options", "save_options"]
