"""Programs written for others: `install_as_ray` lets one that says `import ray` run unchanged."""

from ipyremote.compat.aliases import install_as_ray

__all__ = ["install_as_ray"]
