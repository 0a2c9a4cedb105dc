"""Visdom's page without internet, for visdom_server.py."""
