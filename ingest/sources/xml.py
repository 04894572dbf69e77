"""XML tables as Stack Exchange dumps them: a root whose children are rows and whose attributes are fields; streamed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final
from xml.parsers import expat

from ingest.errors import SourceError
from ingest.sources.files import ExportFile
from ingest.sources.lines import Bytes, broken
from ingest.sources.records import Records

_CHUNK: Final = 1 << 16


class XmlSource:
    """One file of XML; what it declares as its encoding is believed. A row's line is where its element begins.

    Args:
        declared, wanted: as in `Records`.
    """

    def __init__(
        self, file: ExportFile, *, declared: Sequence[str] = (), wanted: Collection[str] | None = None
    ) -> None:
        self._file = file
        self._bytes = Bytes(file)
        self.position, self.close = self._bytes.position, self._bytes.close
        try:
            records = Records(self._elements(), declared, wanted)
            if not records.found:
                raise SourceError(f"{file} has no rows: expected a root with elements such as <row Id='1' …/>")
        except SourceError:
            self.close()
            raise
        self.columns, self.rows = records.columns, records.rows

    def _elements(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        parser = expat.ParserCreate()
        found: list[tuple[int, Mapping[str, str]]] = []
        depth = 0

        def start(_: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth == 2:
                found.append((parser.CurrentLineNumber, attributes))

        def end(_: str) -> None:
            nonlocal depth
            depth -= 1

        def refuse(*_: object) -> None:
            raise SourceError(
                f"{self._file} line {parser.CurrentLineNumber} has a DOCTYPE, whose entities could fill the memory: "
                "take it out"
            )

        parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
        while True:
            failure: Exception | None = None
            try:
                chunk = self._bytes.stream.read(_CHUNK)
                parser.Parse(chunk, not chunk)
            except SourceError:
                raise
            except Exception as error:
                failure = error
            yield from found
            found.clear()
            if failure is not None:
                raise broken(self._file, f"line {parser.CurrentLineNumber}", failure)
            if not chunk:
                return
