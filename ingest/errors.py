"""The errors of ingest, one small tree under the graph's root.

IngestError                 the run cannot go on, or its counts do not add up
├── MappingError            a mapping file that is wrong in itself or does not fit the files it names
└── SourceError             an export that is missing, empty, damaged or not of the format its mapping says
    └── SourceUnavailableError   what serves it does not answer now
"""

import re

from graph.errors import IsthmusError

_USER = re.compile(r"""(://)[^/\s'"]*@""")
_QUERY = re.compile(r"""(://[^\s'"?]*\?)[^\s'"?=]*=[^\s'"]*""")


def redacted(text: str) -> str:
    """A text whose URLs have lost their users, passwords and queries, which may hold a signature or a key."""
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", text)) if "://" in text else text


class IngestError(IsthmusError):
    """The run cannot go on, or its counts do not add up; the message never holds a secret of a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class MappingError(IngestError, ValueError):
    """A mapping that is wrong in itself or does not fit the files it names; the message begins with file and line."""


class SourceError(IngestError):
    """An export that is missing, empty, damaged or not of the format its mapping says."""


class SourceUnavailableError(SourceError):
    """What serves an export does not answer now; the same again may work later."""
