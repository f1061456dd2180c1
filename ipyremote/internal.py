"""The names of `ray.internal`, for programs written for Ray."""

from ipyremote.api import free

__all__ = ["free"]
