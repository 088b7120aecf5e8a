"""The routing table."""

import pytest

from elemta.delivery.router import KNOWN_DOMAINS, Router, matches_domain
from elemta.delivery.settings import MX_ROUTE, Route, TlsPolicy, Via
from elemta.mail.address import Address, parse_address
from elemta.mail.message import State

SENDER = parse_address("s@sender.test")


def to(text: str) -> Address:
    return parse_address(text)


def table(*routes: Route) -> Router:
    return Router(routes)


def key(router: Router, recipient: str, sender: Address | None = SENDER) -> str:
    return router.destination(to(recipient), sender).key


@pytest.mark.parametrize(
    ("pattern", "domain", "expected"),
    [
        ("*", "anything.test", True),
        ("*", "[127.0.0.1]", True),
        ("example.test", "example.test", True),
        ("example.test", "sub.example.test", False),
        ("example.test", "badexample.test", False),
        ("*.example.test", "sub.example.test", True),
        ("*.example.test", "a.b.example.test", True),
        ("*.example.test", "example.test", False),
        ("*.example.test", ".example.test", False),
        ("*.example.test", "badexample.test", False),
        ("[127.0.0.1]", "[127.0.0.1]", True),
    ],
)
def test_domain_patterns(pattern: str, domain: str, expected: bool) -> None:
    assert matches_domain(pattern, domain) is expected


def test_without_routes_mail_goes_to_the_mail_exchangers() -> None:
    router = table()
    destination = router.destination(to("u@example.test"), SENDER)
    assert destination.key == "mx:example.test"
    assert destination.state is State.ACTIVE
    assert destination.way is MX_ROUTE


def test_the_first_match_wins() -> None:
    router = table(
        Route(domains=("example.test", "*.example.test"), via=Via.MAILDIR, path="/m/{local}"),
        Route(domains=("example.test",), via=Via.DISCARD),
        Route(domains=("*",), via=Via.SMTP, host="127.0.0.1", port=2700),
    )
    assert key(router, "u@example.test") == "maildir:/m/{local}"
    assert key(router, "u@deep.example.test") == "maildir:/m/{local}"
    assert key(router, "u@other.test") == "smtp:127.0.0.1:2700"
    destination = router.destination(to("u@other.test"), None)
    assert destination.way == Route(domains=("*",), via=Via.SMTP, host="127.0.0.1", port=2700)


def test_every_way_out_has_its_key() -> None:
    router = table(
        Route(domains=("mx.test",), via=Via.MX),
        Route(domains=("smtp.test",), via=Via.SMTP, host="relay.test"),
        Route(domains=("six.test",), via=Via.SMTP, host="2001:db8::1", port=26),
        Route(domains=("unix.test",), via=Via.LMTP, path="/run/lmtp"),
        Route(domains=("lmtp.test",), via=Via.LMTP, host="127.0.0.1"),
        Route(domains=("dir.test",), via=Via.MAILDIR, path="/m/{domain}/{local}"),
        Route(domains=("hold.test",), via=Via.HOLD),
        Route(domains=("discard.test",), via=Via.DISCARD),
    )
    assert key(router, "u@mx.test") == "mx:mx.test"
    assert key(router, "u@smtp.test") == "smtp:relay.test:25"
    assert key(router, "u@six.test") == "smtp:[2001:db8::1]:26"
    assert key(router, "u@unix.test") == "lmtp:/run/lmtp"
    assert key(router, "u@lmtp.test") == "lmtp:127.0.0.1:24"
    assert key(router, "u@dir.test") == "maildir:/m/{domain}/{local}"
    assert key(router, "u@hold.test") == "hold"
    assert key(router, "u@discard.test") == "discard"


def test_only_the_hold_route_holds() -> None:
    router = table(
        Route(domains=("hold.test",), via=Via.HOLD), Route(domains=("*",), via=Via.DISCARD)
    )
    assert router.destination(to("u@hold.test"), SENDER).state is State.HOLD
    assert router.destination(to("u@other.test"), SENDER).state is State.ACTIVE


def test_senders_choose_among_routes() -> None:
    router = table(
        Route(domains=("*",), via=Via.HOLD, senders=("<>",)),
        Route(domains=("*",), via=Via.DISCARD, senders=("*.noisy.test", "Boss@Sender.Test")),
        Route(domains=("*",), via=Via.SMTP, host="relay.test", senders=("sender.test",)),
    )
    assert key(router, "u@d.test", None) == "hold"
    assert key(router, "u@d.test", to("x@very.noisy.test")) == "discard"
    assert key(router, "u@d.test", to("BOSS@sender.test")) == "discard"
    assert key(router, "u@d.test", to("clerk@sender.test")) == "smtp:relay.test:25"
    assert key(router, "u@d.test", to("x@noisy.test")) == "mx:d.test"
    # what was learnt for one sender does not decide for the next
    assert key(router, "u@d.test", None) == "hold"


def test_any_sender_includes_the_null_sender() -> None:
    router = table(Route(domains=("*",), via=Via.DISCARD, senders=("*",)))
    assert key(router, "u@d.test", None) == "discard"


def test_routes_that_demand_different_tls_do_not_share_connections() -> None:
    host = {"via": Via.SMTP, "host": "relay.test"}
    router = table(
        Route(domains=("a.test",), **host),
        Route(domains=("b.test",), tls=TlsPolicy.VERIFY, **host),
        Route(domains=("c.test",), **host),
        Route(domains=("d.test",), via=Via.MX, tls=TlsPolicy.REQUIRED),
    )
    assert key(router, "u@a.test") == key(router, "u@c.test") == "smtp:relay.test:25"
    assert key(router, "u@b.test") == "smtp:relay.test:25#2"
    assert key(router, "u@d.test") == "mx:d.test#2"
    assert key(router, "u@e.test") == "mx:e.test"


def test_what_is_not_new_passes_routes_that_hold() -> None:
    router = table(
        Route(domains=("d.test",), via=Via.HOLD),
        Route(domains=("d.test",), via=Via.DISCARD, senders=("other.test",)),
        Route(domains=("*",), via=Via.HOLD),
    )
    assert key(router, "u@d.test") == "hold"
    known = router.destination(to("u@d.test"), SENDER, is_new=False)
    assert (known.key, known.state) == ("mx:d.test", State.ACTIVE)
    from_other = router.destination(to("u@d.test"), to("x@other.test"), is_new=False)
    assert from_other.key == "discard"


def test_what_is_remembered_of_domains_is_bounded() -> None:
    router = table()
    for number in range(KNOWN_DOMAINS + 10):
        router.destination(Address("u", f"d{number}.test"), None)
    assert len(router._choices) <= KNOWN_DOMAINS
    assert key(router, "u@d3.test") == "mx:d3.test"
