"""Has ClamAV's clamd look at each message (INSTREAM, clamd(8)).

The message is shown piece by piece as it was received; nothing of it is kept. What clamd does not
look at because of its size is never called clean.

Leaves behind: `clamav.virus` or `clamav.error` in the metadata and the notes of a message.
"""

from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

from elemta.mail.reply import clean_text
from elemta.net import Stream
from elemta.plugins import Metadata, RemoveHeader, ReplaceHeader, ScanResult, ScanStatus
from elemta.plugins.builtin._elsewhere import Incoming, Trouble
from elemta.plugins.builtin._scanning import (
    Consequence,
    Finding,
    Mail,
    Scanner,
    ScanningSettings,
    Servers,
    pour,
    told_of_servers,
)
from elemta.plugins.edits import Edit

HEADER = "X-Virus-Status"
MAX_ANSWER = 4096  # octets
_LIMIT_EXCEEDED = "INSTREAM size limit exceeded. ERROR"
# in two parts: no scanner of virus scanners' sources is to find it here
_EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class ClamavSettings(ScanningSettings):
    """Where clamd is, and what becomes of infected mail."""

    servers: Servers = Field(
        default=("/var/run/clamav/clamd.ctl",), description=told_of_servers("clamd listens")
    )
    max_size: int = Field(
        default=25 * 1024 * 1024,
        ge=1,
        description="Octets of a message that is shown: `StreamMaxLength` of clamd.",
    )
    on_infected: Consequence = Field(
        default="reject",
        description="What becomes of an infected message: `reject` (550 5.7.1), `quarantine`, "
        "`discard` (it is taken and thrown away), `defer` or `continue`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_socket(cls, given: object) -> object:
        """Read `socket = "..."`: most have one server, and no others."""
        if not isinstance(given, dict) or "socket" not in given:
            return given
        if "servers" in given:
            raise ValueError("say either socket or servers")
        rest = {name: value for name, value in given.items() if name != "socket"}
        return rest | {"servers": [given["socket"]]}


class Clamav(Scanner[ClamavSettings]):
    """Finds viruses."""

    metadata = Metadata(
        name="clamav",
        version="1.0.0",
        description="Has clamd look for viruses",
        network=("*",),
        files=("/var/run/clamav:rw",),
    )
    Settings: ClassVar[type[BaseModel]] = ClamavSettings
    family = "antivirus"
    sample = f"Subject: self-test\r\n\r\n{_EICAR}\r\n".encode()

    async def scan(self, stream: Stream, mail: Mail) -> Finding:
        """Send the message in pieces, each with its length before it, and read the verdict."""
        stream.write(b"zINSTREAM\0")

        def put(chunk: bytes) -> None:
            stream.write(len(chunk).to_bytes(4, "big"))
            stream.write(chunk)

        if await pour(mail, stream, put):
            stream.write(bytes(4))
        verdict = await _read(stream)
        if verdict == "stream: OK":
            return self._clean()
        if verdict.startswith("stream: ") and verdict.endswith(" FOUND"):
            return self._infected(verdict.removeprefix("stream: ").removesuffix(" FOUND"))
        if verdict == _LIMIT_EXCEEDED:
            return self.too_big(mail, "more than StreamMaxLength of clamd")
        raise Trouble(f"clamd says: {verdict[:200]}")

    async def ping(self, stream: Stream) -> None:
        """PING."""
        stream.write(b"zPING\0")
        answer = await _read(stream)
        if answer != "PONG":
            raise Trouble(f"clamd says: {answer[:200]}")

    def mark_unscanned(self, mail: Mail, why: str) -> tuple[Edit, ...]:
        """Say so in the field that would have the verdict."""
        del mail
        return (ReplaceHeader(HEADER, f"Not scanned ({why})"),) if self.settings.tag else ()

    def _clean(self) -> Finding:
        edits: tuple[Edit, ...] = (ReplaceHeader(HEADER, "Clean"),) if self.settings.tag else ()
        return Finding(ScanResult(ScanStatus.CLEAN), edits=edits)

    def _infected(self, virus: str) -> Finding:
        edits: tuple[Edit, ...] = (RemoveHeader(HEADER),)
        if self.settings.tag:
            edits = (ReplaceHeader(HEADER, f"Infected ({virus[:200]})"),)
        return Finding(
            ScanResult(ScanStatus.INFECTED, virus, 1.0),
            self.settings.on_infected,
            "The message is infected",
            f"virus: {virus}",
            edits=edits,
            facts={"clamav.virus": virus[:500]},
        )


async def _read(stream: Stream) -> str:
    answer = await Incoming(stream, MAX_ANSWER).until(b"\0")
    return clean_text(answer.decode("utf-8", "replace"), MAX_ANSWER)
