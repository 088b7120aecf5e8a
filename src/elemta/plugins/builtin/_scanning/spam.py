"""What scanners for spam have in common: what they object to, and how they mark a message."""

from typing import ClassVar, Literal, TypeVar

from pydantic import Field

from elemta.mail.reply import clean_text
from elemta.plugins import RemoveHeader, ReplaceHeader
from elemta.plugins.builtin._scanning.mail import Mail
from elemta.plugins.builtin._scanning.scanner import Scanner
from elemta.plugins.builtin._scanning.settings import ScanningSettings
from elemta.plugins.edits import Edit

STATUS, FLAG = "X-Spam-Status", "X-Spam-Flag"
# in two parts: no scanner is to find it here
_GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE" + "-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class SpamSettings(ScanningSettings):
    """The settings that all scanners for spam have."""

    user: str = Field(
        default="",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description='Whose preferences and statistics hold: a name, "" for what the server takes '
        "by itself.",
    )
    user_from: Literal["setting", "recipient", "login"] = Field(
        default="setting",
        description="Whose they are instead where that is known: of the recipient, if it is only "
        "one, or of who has logged in.",
    )


S = TypeVar("S", bound=SpamSettings)


class SpamScanner(Scanner[S]):
    """A scanner that tells spam."""

    family: ClassVar[str] = "antispam"
    sample: ClassVar[bytes] = (
        "From: <self-test@localhost>\r\nTo: <postmaster@localhost>\r\nSubject: self-test\r\n"
        f"Message-ID: <self-test@localhost>\r\n\r\n{_GTUBE}\r\n"
    ).encode()

    def user(self, mail: Mail) -> str:
        """Say whose preferences hold for a message; "" for nobody's in particular."""
        settings, found = self.settings, ""
        if settings.user_from == "recipient" and len(mail.recipients) == 1:
            found = mail.recipients[0]
        elif settings.user_from == "login":
            found = mail.session.get("user", "")
        return clean_text(found).strip() or settings.user

    def key(self, mail: Mail) -> str:
        """Users may have preferences of their own."""
        return f"{mail.queue_id} {self.user(mail)}"

    def mark(self, text: str, *, is_spam: bool) -> tuple[Edit, ...]:
        """Write what was found into the header section, if that is wanted."""
        if not self.settings.tag:
            return ()
        status = ReplaceHeader(STATUS, f"{'Yes' if is_spam else 'No'}, {text}")
        return status, ReplaceHeader(FLAG, "YES") if is_spam else RemoveHeader(FLAG)

    def mark_unscanned(self, mail: Mail, why: str) -> tuple[Edit, ...]:
        """Say so in the field that would have the verdict."""
        del mail
        return self.mark(f"not scanned ({why})", is_spam=False)
