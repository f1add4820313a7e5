"""One replication stream of PostgreSQL, received by a thread of its own that always answers the server.

https://www.postgresql.org/docs/current/protocol-replication.html, START_REPLICATION … LOGICAL. The server ends a
connection that says nothing for `wal_sender_timeout`; so what is said doesn't depend on how slow the consumer is.

What may be acknowledged. After a restart the server leaves out the transactions whose commit record begins before the
acknowledged position, and sends all others in full. Hence, of what `take` gave:

- the end LSN of a Commit message, once that transaction and all before it are handled for good;
- a chunk's `sent`, once all its messages and all before are handled for good. The changes of a transaction that is
  only half there need not be: its commit record lies behind `sent`, so it comes again.

Never the position of anything that `take` has not given yet. A keepalive's position is the end of the last record
that was decoded (`sentPtr` in walsender.c): while a transaction is being sent that lies before its commit record.
XLogData carries the LSN of the change (0 for relations), and of a Commit its end: it lies in the past, and never
behind the commit record of the transaction that it belongs to. All this holds for protocol version 1, which sends
whole transactions in commit order.

A server that is told to stop waits until all that it sent is acknowledged: a consumer must acknowledge chunks
without messages too.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections import deque
from typing import NamedTuple

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from listener.pg_slots import Connection, ask, connect, quoted
from listener.pgoutput import show_lsn

#: The name of the thread that receives.
RECEIVER = "refitd-feed-receiver"
#: The receiver reads no more while so many bytes wait for the consumer.
WAITING_BYTES = 16 * 1024 * 1024
#: A chunk is handed over when the socket is empty, or at this size.
CHUNK_MESSAGES, CHUNK_BYTES = 1000, 1024 * 1024
#: A status update is sent at least so often, and thrice in `wal_sender_timeout`.
STATUS_S = 5.0
#: A server that has not answered for so long is gone. (It may be busy for a while with a large transaction.)
SILENT_S = 120.0
_JOIN_S = 5.0
#: What a message costs beside its bytes.
_OVERHEAD = 64
_HEADER = 25
_EPOCH = 946_684_800
_DATA, _KEEPALIVE = b"wk"
_status = struct.Struct(">c8sQQqB").pack


class Chunk(NamedTuple):
    """Payloads of XLogData in order, perhaps none, and the WAL position up to which everything has been sent."""

    messages: list[bytes]
    sent: int


class PgStream:
    """One stream at a time. Used by one thread, but for `acknowledge` and `close`."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._receiver: _Receiver | None = None

    def open(self, slot: str, start: int, publication: str) -> None:
        """Begin to receive what commits behind `start`, and end the stream before.

        `start` must not lie before the slot's `confirmed_flush_lsn`: the server would skip ahead silently. Of a missing
        publication servers before 18 say so at the next change, as an error of `take`; newer ones send nothing.

        Raises:
            psycopg.Error: as it is; ObjectInUse while the server believes that another one reads the slot.
        """
        self.close()
        connection = connect(self._conninfo)
        try:
            setting = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'"
            ((milliseconds,),) = ask(connection.pgconn, setting)
            every_s = min(STATUS_S, int(milliseconds or 0) / 3000 or STATUS_S)
            names = quoted(publication).replace("'", "''")
            command = f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {show_lsn(start)} "
            command += f"(proto_version '1', publication_names '{names}')"
            result = connection.pgconn.exec_(command.encode())
            if result.status != ExecStatus.COPY_BOTH:
                raise error_from_result(result)
            connection.pgconn.nonblocking = 1
        except BaseException:
            connection.close()
            raise
        self._receiver = _Receiver(connection, start, every_s)
        self._receiver.start()

    def take(self, timeout_s: float) -> Chunk | None:
        """What came next, waiting so long for it; None when nothing came, not even progress.

        Raises:
            psycopg.Error: the stream has ended, and all that came before has been given.
        """
        receiver = self._receiver
        if receiver is None:
            raise psycopg.OperationalError("the replication stream is closed")
        return receiver.take(timeout_s)

    def acknowledge(self, lsn: int) -> None:
        """Tell the server that it need not send what lies before this position again; see above what it may be.

        It is told at once, by the receiver. A position before `start` or an earlier one changes nothing: servers
        before 18 would set the slot back.
        """
        receiver = self._receiver
        if receiver is not None:
            receiver.acknowledge(lsn)

    def close(self) -> None:
        """End the stream, and `take` with it. Twice is safe."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.stop()


class _Receiver(threading.Thread):
    """Alone uses the connection, until it ends."""

    def __init__(self, connection: Connection, start: int, every_s: float) -> None:
        super().__init__(name=RECEIVER, daemon=True)
        self._connection, self._pgconn = connection, connection.pgconn
        self._start, self._every_s = start, every_s
        self._top = start.to_bytes(8, "big")  # everything up to there was received
        self._acknowledged = self._reported = 0  # 0 changes nothing at the server
        self._heard = time.monotonic()
        self._due = self._heard  # when the next status update is
        self._flushing = False
        self._closing = False
        self._changed = threading.Condition()
        self._chunks: deque[tuple[Chunk, int]] = deque()
        self._waiting = 0
        self._error: psycopg.Error | None = None
        self._woken = False
        self._wake, self._waker = os.pipe()

    # The consumer's side.

    def take(self, timeout_s: float) -> Chunk | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._chunks or self._error, timeout_s):
                return None
            if not self._chunks:
                raise self._error or psycopg.OperationalError("the replication stream is closed")
            chunk, size = self._chunks.popleft()
            was_full = self._waiting >= WAITING_BYTES
            self._waiting -= size
        if was_full:
            self._rouse()
        return chunk

    def acknowledge(self, lsn: int) -> None:
        if lsn >= self._start and lsn > self._acknowledged:
            self._acknowledged = lsn
            self._rouse()

    def stop(self) -> None:
        self._closing = True
        self._rouse()
        if self is not threading.current_thread():
            self.join(_JOIN_S)

    def _rouse(self) -> None:
        """Have the receiver look at what was changed before this."""
        with self._changed:
            if not self._woken and self._error is None:
                self._woken = True
                os.write(self._waker, b"\0")

    # The receiver's side.

    def run(self) -> None:
        """Receive until it is closed or fails; the error is raised where the last chunk was taken."""
        error: psycopg.Error = psycopg.OperationalError("the replication stream is closed")
        try:
            while not self._closing:
                more = self._receive()
                self._report()
                if not more:
                    self._wait()
            self._due = 0.0
            self._report()
        except psycopg.Error as raised:
            error = raised
        finally:
            self._connection.close()
            with self._changed:
                self._error = error
                os.close(self._wake)
                os.close(self._waker)
                self._changed.notify_all()

    def _receive(self) -> bool:
        """Hand over what is there as one chunk; whether there may be more at once."""
        if self._waiting >= WAITING_BYTES:
            self._heard = time.monotonic()  # nobody listens
            return False
        get, messages, size, top, dry = self._pgconn.get_copy_data, list[bytes](), 0, self._top, False
        try:
            while size < CHUNK_BYTES and len(messages) < CHUNK_MESSAGES:
                count, view = get(1)
                if count > 0:
                    data, dry = view.tobytes(), False
                    if data[0] == _DATA:
                        messages.append(data[_HEADER:])
                        size += count + _OVERHEAD
                    elif data[0] == _KEEPALIVE:
                        self._heard = time.monotonic()
                        self._due = 0.0 if data[17] else self._due
                    if data[1:9] > top:  # as big-endian bytes they are ordered as the numbers are
                        top = data[1:9]
                elif count == 0 and dry:
                    return False
                elif count == 0:
                    self._pgconn.consume_input()
                    dry = True
                else:
                    raise self._ended()
            return True
        finally:
            if messages or top != self._top:
                self._hand_over(messages, size, top)

    def _hand_over(self, messages: list[bytes], size: int, top: bytes) -> None:
        self._top, self._heard = top, time.monotonic()
        chunk = Chunk(messages, int.from_bytes(top, "big"))
        with self._changed:
            if self._chunks and not messages:  # progress alone takes no room
                last, size = self._chunks.pop()
                self._waiting -= size
                chunk = Chunk(last.messages, chunk.sent)
            self._chunks.append((chunk, size))
            self._waiting += size
            self._changed.notify()

    def _ended(self) -> psycopg.Error:
        """Why the server sends no more."""
        result = self._pgconn.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            return error_from_result(result)
        return psycopg.OperationalError("the server ended the replication stream")

    def _report(self) -> None:
        """Send a status update if it is time, something was acknowledged, or the server asked for it."""
        if self._flushing:
            self._flushing = self._pgconn.flush() == 1
        now, acknowledged = time.monotonic(), self._acknowledged
        if self._flushing or (now < self._due and acknowledged == self._reported):
            return
        silent = now - self._heard
        if silent > SILENT_S:
            raise psycopg.OperationalError(f"the server has sent nothing for {silent:.0f} s, and was asked to")
        clock = int((time.time() - _EPOCH) * 1e6)
        self._pgconn.put_copy_data(_status(b"r", self._top, acknowledged, acknowledged, clock, silent > STATUS_S))
        self._flushing = self._pgconn.flush() == 1
        self._reported, self._due = acknowledged, now + self._every_s

    def _wait(self) -> None:
        """Until there is something to receive, to say or to look at."""
        events = (self._waiting < WAITING_BYTES and select.POLLIN) | (self._flushing and select.POLLOUT)
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if events:
            poll.register(self._pgconn.socket, events)
        for found, _ in poll.poll(max(0.0, self._due - time.monotonic()) * 1000):
            if found == self._wake:
                os.read(self._wake, 16)
                self._woken = False
