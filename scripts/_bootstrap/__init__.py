"""The environment that run_tests.py and demo.py make; runs without any package."""
