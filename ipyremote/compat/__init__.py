"""Compatibility with programs written for Ray: `install_as_ray` in `aliases` lets a program with `import ray` run."""
