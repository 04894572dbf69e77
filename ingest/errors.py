"""The errors of ingest, one small tree under the graph's root.

IngestError                 the run cannot go on, or its counts do not add up
├── MappingError            a mapping file that is wrong in itself or does not fit the files it names
└── SourceError             an export that is missing, empty, damaged or not of the format its mapping says
"""

from graph.errors import IsthmusError


class IngestError(IsthmusError):
    """The run cannot go on, or its counts do not add up."""


class MappingError(IngestError, ValueError):
    """A mapping that is wrong in itself or does not fit the files it names; the message begins with file and line."""


class SourceError(IngestError):
    """An export that is missing, empty, damaged or not of the format its mapping says."""
