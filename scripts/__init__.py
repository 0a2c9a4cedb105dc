"""Commands for users and developers; each is run as a file: ``python scripts/demo.py``."""
