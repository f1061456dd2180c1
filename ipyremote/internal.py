"""What programs written for Ray find in `ray.internal`."""

from ipyremote.api import free

__all__ = ["free"]
