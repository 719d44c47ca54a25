"""Where in the text of a query something stands."""


class SyntaxProblem(Exception):
    """A problem at a character offset of the text; `parser.parse` turns it into a ParseError with line and column."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character offset. Columns count bytes of UTF-8, as Prometheus does."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, len(text[line_start:offset].encode("utf-8", "surrogatepass")) + 1
