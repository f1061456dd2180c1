"""Compatibility with programs written for Ray: `install_as_ray` lets a program with `import ray` run unchanged."""

from ipyremote.compat.aliases import install_as_ray

__all__ = ["install_as_ray"]
