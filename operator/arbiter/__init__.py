"""Arbiter keeps the best local language model behind a stable Kubernetes endpoint."""

__version__ = "0.1.0"
