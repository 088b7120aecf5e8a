"""Who really sent a message, on the running server with a real DNS: all results of all checks."""

import dkim
import pytest
from scenarios.authentic import ALL, message, posting, record, sealed, signed
from servers.dialogue import Dialogue

RESULTS = "dmarc=pass header.from=pass.test"


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    with posting(tmp_path_factory.mktemp("authentication"), ALL) as found:
        yield found
        assert found.server.events("plugin_error") == []


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("127.0.0.2", "pass"),
        ("127.0.0.3", "fail"),
        ("127.0.0.5", "permerror"),
        ("127.0.0.4", "temperror"),
    ],
)
def test_iprev(post, source, result):
    post.send("soft.test", source=source)
    found = post.results()["iprev"]
    assert (found.result, found.properties[0].value) == (result, source)


@pytest.mark.parametrize(
    ("domain", "source", "result"),
    [
        ("passing.test", "127.0.0.2", "pass"),
        ("fail.test", "127.0.0.2", "fail"),
        ("soft.test", "127.0.0.2", "softfail"),
        ("neutral.test", "127.0.0.2", "neutral"),
        ("nothing.test", "127.0.0.2", "none"),
        ("broken.test", "127.0.0.2", "permerror"),
        ("down.test", "127.0.0.2", "temperror"),
    ],
)
def test_spf(post, domain, source, result):
    post.send(domain, source=source)
    found = post.results()["spf"]
    assert found.result == result
    assert [(each.name, each.value) for each in found.properties] == [
        ("mailfrom", f"someone@{domain}")
    ]


@pytest.mark.parametrize(
    ("helo", "source", "result"),
    [
        ("mx.pass.test", "127.0.0.2", "pass"),
        ("mx.pass.test", "127.0.0.3", "fail"),
        ("nothing.test", "127.0.0.3", "none"),
        ("[127.0.0.3]", "127.0.0.3", "none"),
    ],
)
def test_spf_of_the_name_in_helo_speaks_for_the_null_sender(post, helo, source, result):
    post.send("", source=source, helo=helo, content=message("nothing.test"))
    assert post.results()["spf"].result == result


def test_dkim_passes(post):
    post.send("nothing.test", content=signed(message("signed.test"), "signed.test"))
    found = post.results()
    assert found["dkim"].result == "pass"
    assert {each.name: each.value for each in found["dkim"].properties}["d"] == "signed.test"
    assert found["dmarc"].result == "pass"


@pytest.mark.parametrize(
    ("domain", "selector", "old", "new", "result"),
    [
        ("pass.test", "key", b"hello\r\n", b"hello there\r\n", "fail"),
        ("pass.test", "key", b"Subject: hello", b"Subject: other", "fail"),
        ("pass.test", "gone", b"", b"", "permerror"),
        ("down.test", "key", b"", b"", "temperror"),
        ("pass.test", "key", b" d=pass.test;", b"", "permerror"),
        ("pass.test", "key", b"a=rsa-sha256", b"a=rsa-sha1", "policy"),
    ],
)
def test_dkim_does_not_pass(post, domain, selector, old, new, result):
    content = signed(message("passing.test"), domain, selector)
    assert old in content
    post.send("passing.test", source="127.0.0.2", content=content.replace(old, new))
    assert post.results()["dkim"].result == result


def test_no_signature(post):
    post.send("passing.test", source="127.0.0.2")
    found = post.results()
    assert (found["dkim"].result, found["dmarc"].result, found["arc"].result) == ("none",) * 3


def test_all_signatures_are_judged(post):
    content = signed(signed(message("signed.test"), "signed.test", "gone"), "signed.test")
    post.send("passing.test", source="127.0.0.2", content=content)
    head = post.arrived().partition(b"\r\nReceived:")[0]
    assert head.count(b"dkim=pass") == head.count(b"dkim=permerror") == 1


@pytest.mark.parametrize(
    ("author", "sender", "source", "result"),
    [
        ("pass.test", "pass.test", "127.0.0.2", "pass"),
        ("sub.pass.test", "pass.test", "127.0.0.2", "pass"),
        ("fail.test", "pass.test", "127.0.0.2", "fail"),
        ("nothing.test", "pass.test", "127.0.0.2", "none"),
        ("wrong.test", "pass.test", "127.0.0.2", "permerror"),
        ("half.test", "half.test", "127.0.0.2", "temperror"),
        ("reject.test", "reject.test", "127.0.0.2", "pass"),
    ],
)
def test_dmarc(post, author, sender, source, result):
    assert post.send(sender, source=source, content=message(author)).startswith("250")
    found = post.results()["dmarc"]
    assert found.result == result
    assert {each.name: each.value for each in found.properties}["from"] == author


@pytest.mark.parametrize("author", ["reject.test", "below.reject.test"])
def test_dmarc_rejects(post, author):
    reply = post.send("pass.test", source="127.0.0.2", content=message(author))
    assert reply.startswith(
        f"550 5.7.26 Neither SPF nor DKIM shows that this message is from {author}, "
        "and that domain asks to refuse such mail (DMARC)"
    )
    reason = f"dmarc=fail from {author}, p=reject"
    post.server.wait_event("message_rejected", plugin="dmarc", reason=reason)


def test_dmarc_quarantines(post):
    reply = post.send("pass.test", source="127.0.0.2", content=message("quarantine.test"))
    queue_id = reply.rpartition(" ")[2]
    (event,) = post.server.wait_event("message_quarantined", queue_id=queue_id)
    assert event["plugin"] == "dmarc"
    post.server.cli("queue", "release", queue_id)
    assert post.results()["dmarc"].result == "fail"


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: no author\r\n",
        b"From: a@pass.test\r\nFrom: a@reject.test\r\n",
        b"From: nobody at all\r\n",
    ],
)
def test_an_unclear_author(post, head):
    reply = post.send("pass.test", source="127.0.0.2", head=head)
    assert reply.startswith("550 5.7.1 It is not clear from whom this message is")


def test_several_authors_are_all_judged(post):
    head = b"From: a@pass.test, b@reject.test\r\n"
    reply = post.send("pass.test", source="127.0.0.2", head=head)
    assert reply.startswith("550 5.7.26 ")
    head = b"From: a@pass.test, b@fail.test\r\n"
    assert post.send("pass.test", source="127.0.0.2", head=head).startswith("250 ")


def test_arc(post):
    whole = sealed(message("fail.test"), "signed.test", "arc=none")
    post.send("passing.test", content=whole)
    found = post.results()["arc"]
    assert (found.result, found.properties[0].name) == ("pass", "oldest-pass")
    post.send("passing.test", content=whole.replace(b"\r\nhello", b"\r\nhullo"))
    assert post.results()["arc"].result == "fail"
    post.send("passing.test", content=sealed(message("fail.test"), "down.test", "arc=none"))
    found = post.results()["arc"]
    assert (found.result, found.reason) == ("fail", "a key could not be looked up")


def test_forged_results_are_removed_and_others_stay(post):
    forged = (
        b"Authentication-Results: mail.example.test; spf=pass smtp.mailfrom=x@pass.test\r\n"
        b"authentication-RESULTS:\r\n\t(comment) MAIL.Example.test ; dkim=pass\r\n"
        b'Authentication-Results : "mail.example.test" 1; dmarc=pass\r\n'
        b"Authentication-Results: other.test; dkim=pass header.d=x.test\r\n"
        b"Authentication-Results: sub.mail.example.test; dkim=pass\r\n"
    )
    post.send("fail.test", content=forged + message("fail.test"))
    head = post.arrived().partition(b"\r\n\r\n")[0]
    assert head.lower().count(b"authentication-results") == 2
    assert b"\r\nAuthentication-Results: other.test; dkim=pass header.d=x.test\r\n" in head
    assert post.results()["dmarc"].result == "fail"


def test_a_flood_of_forged_results(post):
    forged = b"Authentication-Results: mail.example.test; spf=pass\r\n" * 300
    forged += b"Authentication-Results: other.test; spf=pass\r\n"
    post.send("fail.test", content=forged + message("fail.test"))
    head = post.arrived().partition(b"\r\n\r\n")[0]
    assert head.lower().count(b"authentication-results") == 1


def test_what_is_below_the_field_is_untouched(post):
    body = (bytes(range(32, 256)) + b" \t \r\n") * 50
    body += b"\r\n .. \r\n..\r\n" + b"x" * 998 + b"\r\n\r\n\r\n"
    odd = b"From:  Someone\r\n <someone@signed.test>\r\nX-Odd:\r\n \t folds \r\nsubject:\thi  \r\n"
    content = signed(odd + b"\r\n" + body, "signed.test")
    post.send("passing.test", source="127.0.0.2", content=content)
    arrived = post.arrived()
    assert arrived.endswith(content)
    assert post.results()["dkim"].result == "pass"
    keys = {b"key._domainkey.signed.test.": record().encode()}
    assert dkim.verify(arrived, dnsfunc=lambda name, timeout=5: keys.get(name))


def test_a_large_message(post):
    content = signed(message("signed.test") + b"a line of a large one\r\n" * 60_000, "signed.test")
    post.send("passing.test", source="127.0.0.2", content=content)
    assert post.results()["dkim"].result == "pass"
    assert post.arrived().endswith(content)


def test_several_messages_of_a_session_are_judged_by_themselves(post):
    with Dialogue(post.server.port, source="127.0.0.2") as client:
        client.hello()
        first = client.deliver(message("pass.test"), "someone@pass.test", "one@example.test")
        second = client.deliver(message("reject.test"), "someone@pass.test", "two@example.test")
        third = client.deliver(message("soft.test"), "someone@soft.test", "three@example.test")
    assert [reply[:3] for reply in (first, second, third)] == ["250", "550", "250"]
    (arrived,) = post.server.wait_mail("three")
    assert b"spf=softfail" in arrived
    assert b"dmarc=none" in arrived


def test_trusted_clients_are_not_judged(post):
    forged = b"Authentication-Results: mail.example.test; spf=pass\r\n"
    content = forged + message("reject.test")
    assert post.send("fail.test", source="127.0.0.200", content=content).startswith("250")
    assert b"Authentication-Results" not in post.arrived()


def test_what_is_found_is_counted(post):
    post.send("pass.test", source="127.0.0.2")
    for sample in (
        'spf_checks_total{identity="mailfrom",plugin="spf",result="pass"}',
        'dkim_checks_total{plugin="dkim",result="none"}',
        'dmarc_checks_total{disposition="none",plugin="dmarc",result="pass"}',
        'arc_checks_total{plugin="arc",result="none"}',
        'iprev_checks_total{plugin="iprev",result="pass"}',
    ):
        name = f"elemta_plugin_{sample}"
        post.server.wait_for(lambda name=name: post.server.metric(name), sample)


def test_the_order_of_plugins(post):
    listed = [
        line.split()[0]
        for line in post.server.cli("plugins", "list").stdout.splitlines()
        if line.split()
    ]
    names = ["iprev", "spf", "dkim", "arc", "dmarc", "authentication-results"]
    assert [name for name in listed if name in names] == names
