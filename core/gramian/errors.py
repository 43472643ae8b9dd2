"""Every error that Gramian raises on purpose.

    GramianError
    ├── InvalidRequest          the caller can fix it: 400
    │   ├── Unauthorized        unknown user, wrong signature: 401
    │   ├── NotFound            no such endpoint: 404
    │   ├── AlreadyExists       the id is taken: 409
    │   └── TooLarge            a budget is exceeded: 413
    ├── Unavailable             a store is down, try again: 503
    │   └── Busy                what is asked for is under way already, try again: 409
    ├── StoreError              a store plugin failed
    │   ├── ConditionFailed     somebody else wrote first
    │   ├── BlobMissing
    │   └── BlobCorrupt
    ├── TransportError          a transport plugin failed
    │   ├── TransportUnavailable  unreachable, timed out
    │   ├── TransportRefused      credentials, version, limits
    │   ├── RevisionConflict      a head or roster moved on
    │   ├── ContentMissing        a blob, or a chunk of it, is not there
    │   └── TransportFull         no room for a blob
    ├── Refused                 a peer's message or snapshot fails a check
    │   └── BadSeal             does not open: wrong key, or altered
    └── PluginError             a plugin is missing, broken or misconfigured

One Flask handler maps these to the contract's envelope (`gramian.http.errors`).
"""

from __future__ import annotations


class GramianError(Exception):
    """Root of all errors raised on purpose; its text is fit for users and holds no secret."""


class InvalidRequest(GramianError):
    """The request cannot work as it stands; the text says what is wrong and what to do."""


class Unauthorized(InvalidRequest):
    """The request is not from a known user. `string_to_sign` (secret removed) helps its author."""

    def __init__(self, text: str, string_to_sign: str | None = None) -> None:
        super().__init__(text)
        self.string_to_sign = string_to_sign


class NotFound(InvalidRequest):
    """No such endpoint."""


class AlreadyExists(InvalidRequest):
    """The id is taken."""


class TooLarge(InvalidRequest):
    """A budget for input is exceeded; the text names it."""


class Unavailable(GramianError):
    """Something this node depends on is down; the same request may work later."""


class Busy(Unavailable):
    """Only one of its kind can run at a time, and one does; the text says what to wait for."""


class StoreError(GramianError):
    """A store plugin failed."""


class ConditionFailed(StoreError):
    """A conditional write found another version than expected: read again and decide anew."""


class BlobMissing(StoreError):
    """No blob under that digest."""


class BlobCorrupt(StoreError):
    """The stored bytes no longer match their digest."""


class TransportError(GramianError):
    """A transport plugin failed."""


class TransportUnavailable(TransportError):
    """The transport cannot be reached, or did not answer in time."""


class TransportRefused(TransportError):
    """The transport is reachable but refuses: credentials, version, permissions, limits."""


class RevisionConflict(TransportError):
    """The head or roster has another revision than expected."""


class ContentMissing(TransportError):
    """A blob or one of its chunks is not there."""


class TransportFull(TransportError):
    """The transport has no room for another blob."""


class Refused(GramianError):
    """A peer's roster, head, snapshot or message fails a check; its last good state stays."""


class BadSeal(Refused):
    """A sealed text does not open: wrong key or password, or it was altered."""


class PluginError(GramianError):
    """A plugin is missing, broken or misconfigured; the text names it and the remedy."""


def for_callers(error: GramianError) -> str:
    """What callers may read of an error. A store's own words name places of this machine: they belong into the log."""
    return "a store of this node is out of order, try again later" if isinstance(error, StoreError) else str(error)
