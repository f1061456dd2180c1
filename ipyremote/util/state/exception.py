"""The exception of this package, beside those for wrong arguments and for a session that is gone."""

from __future__ import annotations

from ipyremote.exceptions import IPyRemoteError

__all__ = ["RayStateApiException", "StateApiException"]


class StateApiException(IPyRemoteError):
    """Raised when a table has more rows than one query looks through, so an answer would not be complete.

    `raise_on_missing_output=False` gives what was found. A list without filters is always complete up to its limit.
    """


#: Ray's name for it.
RayStateApiException = StateApiException
