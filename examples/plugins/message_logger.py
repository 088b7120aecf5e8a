"""Tells another system of each message: a line of JSON to an HTTP endpoint or Elasticsearch."""

import asyncio
import contextlib
import http.client
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, HttpUrl

from elemta.plugins import Metadata, Plugin, QueueContext, Settings


class Endpoint(Settings):
    """Where to, and how much may wait.

    Attributes:
        url: Posted to; for Elasticsearch "http://127.0.0.1:9200/_bulk". None tells nobody.
        index: Of Elasticsearch; "" sends plain lines of JSON.
        max_waiting: Messages that wait to be told; what comes beyond is dropped and counted.
        batch: Messages of one request.
        timeout: Seconds that a request may take.
        pause: Seconds of rest after one that failed.
    """

    url: HttpUrl | None = None
    index: str = ""
    max_waiting: int = Field(default=1000, ge=1)
    batch: int = Field(default=100, ge=1)
    timeout: float = Field(default=5.0, gt=0)
    pause: float = Field(default=5.0, ge=0)


class MessageLogger(Plugin[Endpoint]):
    """Only puts a record into a queue: mail never waits for the endpoint."""

    metadata = Metadata(
        name="message-logger",
        version="1.0.0",
        description="Tells an HTTP endpoint of each message",
        network=("*",),
    )
    Settings = Endpoint

    async def setup(self) -> None:
        self.waiting = asyncio.Queue[dict[str, Any]](self.settings.max_waiting)
        self.teller = asyncio.get_running_loop().create_task(self.tell())

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):  # what waits gets a last chance
            await asyncio.wait_for(self.waiting.join(), self.settings.timeout)
        self.teller.cancel()
        await asyncio.wait([self.teller])

    def on_stored(self, ctx: QueueContext) -> None:
        if self.settings.url is None:
            return
        record = {
            "@timestamp": datetime.fromtimestamp(ctx.clock.now(), UTC).isoformat(),
            "queue_id": ctx.queue_id,
            "session_id": ctx.session_id,
            "sender": str(ctx.sender or ""),
            "recipients": [str(each) for each in ctx.recipients[:100]],
            "size": ctx.size,
        }
        try:
            self.waiting.put_nowait(record)
        except asyncio.QueueFull:
            ctx.metrics.count("dropped_records")

    async def tell(self) -> None:
        """Send what waits, for as long as the plugin lives."""
        while True:
            records = [await self.waiting.get()]
            while len(records) < self.settings.batch and not self.waiting.empty():
                records.append(self.waiting.get_nowait())
            try:
                await asyncio.to_thread(post, self.settings, records)
                self.tools.metrics.count("told_records", len(records))
            except (OSError, http.client.HTTPException) as error:
                self.tools.metrics.count("dropped_records", len(records))
                self.tools.log.warning(f"{len(records)} records dropped: {error}")
                await asyncio.sleep(self.settings.pause)
            finally:
                for _ in records:
                    self.waiting.task_done()


def post(endpoint: Endpoint, records: list[dict[str, Any]]) -> None:
    """Send one request, and wait for its answer; `OSError` where it is not a good one."""
    action = json.dumps({"index": {"_index": endpoint.index}}) + "\n" if endpoint.index else ""
    body = "".join(f"{action}{json.dumps(record)}\n" for record in records)
    url = urlsplit(str(endpoint.url))
    is_safe = url.scheme == "https"
    kind = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=endpoint.timeout)
    with contextlib.closing(connection):
        target = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        connection.request("POST", target, body, {"Content-Type": "application/x-ndjson"})
        status = connection.getresponse().status
    if not 200 <= status < 300:
        raise OSError(f"the endpoint answers {status}")
