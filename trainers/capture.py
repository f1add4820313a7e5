"""What training code prints, warns and logs, as lines of the fit's log."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator

Line = Callable[[str], None]


class LineWriter(io.TextIOBase):
    """A text stream that hands on whole lines. Progress bars, which overwrite a line, count by their last state."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._rest = ""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Hand on what is complete, keep the rest."""
        *whole, self._rest = (self._rest + text).split("\n")
        for one in whole:
            self._tell(one)
        return len(text)

    def finish(self) -> None:
        """Hand on what has no line end."""
        self._tell(self._rest)
        self._rest = ""

    def _tell(self, text: str) -> None:
        shown = text.rsplit("\r", 1)[-1].rstrip()
        if shown:
            self._line(shown[:1000])


class _LogLines(logging.Handler):
    def __init__(self, line: Line) -> None:
        super().__init__(logging.INFO)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line(f"{record.levelname.lower()}: {record.getMessage()}"[:1000])


@contextlib.contextmanager
def captured(line: Line) -> Iterator[None]:
    """Within it, stdout, stderr (so warnings too) and the root logger of this process go to `line`."""
    writer, handler = LineWriter(line), _LogLines(line)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with contextlib.redirect_stdout(writer), contextlib.redirect_stderr(writer):
            yield
    finally:
        root.removeHandler(handler)
        writer.finish()
