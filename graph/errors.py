"""The errors of the graph, one small tree; a message says the value that broke the rule and the next step.

IsthmusError                what the command line prints as one sentence; every error of ours is one
├── KeyFormatError          a key that is not of its form
├── RecordError             a record whose values break a rule
├── SchemaError             an unknown label, relationship type or a pair of nodes it may not join
├── StoreError
│   ├── ErasedError         an account that was erased and is sent again
│   ├── StoreUrlError       a store URL nothing can be opened from
│   └── StoreUnavailableError   the store does not answer, or refuses the login
├── SnapshotError           a snapshot that is missing, damaged or does not fit
├── ClusterError            a Ray that does not start or cannot be joined
└── SplitError              a split that cannot be made from these events
"""


class IsthmusError(Exception):
    """The root: its text is a sentence a user can act on."""


class KeyFormatError(IsthmusError, ValueError):
    """A key that is not of its form."""


class RecordError(IsthmusError, ValueError):
    """A record whose values break a rule."""


class SchemaError(IsthmusError, ValueError):
    """An unknown label or relationship type, or one between nodes it may not join."""


class StoreError(IsthmusError):
    """The graph store could not do what was asked."""


class ErasedError(StoreError):
    """An account that was erased and is sent again."""


class StoreUrlError(StoreError, ValueError):
    """A store URL that names no known store."""


class StoreUnavailableError(StoreError):
    """The store does not answer, or refuses the login."""


class SnapshotError(IsthmusError):
    """A snapshot that is missing, damaged, or does not fit what it is used with."""


class SplitError(IsthmusError, ValueError):
    """A split that cannot be made from these events."""


class ClusterError(IsthmusError):
    """A Ray does not start here, or the one that was named cannot be joined."""
