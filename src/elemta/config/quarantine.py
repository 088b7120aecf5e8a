"""The settings of what operators can do about mail in quarantine."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from elemta.config.sections import Section, live
from elemta.config.values import File, Kind
from elemta.mail.address import parse_address


def _judge_url(text: str) -> str:
    if not text:
        return text
    url = urlsplit(text)  # a ValueError says what is wrong
    is_http = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    if not is_http or url.username is not None or url.query or url.fragment:
        raise ValueError('a URL is expected, such as "http://127.0.0.1:11334"')
    return text.rstrip("/")


def _judge_address(text: str) -> str:
    if text and not parse_address(text).domain:
        raise ValueError("an address with a domain is expected")
    return text


Url = Annotated[str, AfterValidator(_judge_url), Kind("URL")]
Mailbox = Annotated[str, AfterValidator(_judge_address), Kind("address")]


class QuarantineConfig(Section):
    """What operators can do about mail in quarantine.

    `queue.quarantine_age` says how long it stays there.
    """

    allow_list: Annotated[
        File,
        live(
            "Where `elemta quarantine release --allow-sender` writes senders: a list of the kind "
            '"mail", for rules.'
        ),
    ] = ""
    rspamd: Annotated[
        Url,
        live("The controller of the Rspamd that learns from reports."),
    ] = ""
    rspamd_password_file: Annotated[
        File, live("The file with its `enable_password`, where it wants one.")
    ] = ""
    ham_address: Annotated[
        Mailbox, live("Who gets messages that are reported as ham, each as an attachment.")
    ] = ""
    spam_address: Annotated[Mailbox, live("Likewise, as spam.")] = ""
