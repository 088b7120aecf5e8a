"""The plugin, from the verdict about a message to the letter with the report."""

import email
import email.policy
import gzip

import pytest
from mailauth.reports.feedback_reader import read_feedback

from elemta.mailauth import AuthStatus, DkimVerdict, DmarcVerdict, SpfVerdict
from elemta.mailauth.dmarc import parse_record
from elemta.plugins.builtin.dmarc_reports import DmarcReports
from elemta.testing import PluginBench

MESSAGE = b"From: <x@a.test>\r\nSubject: hello\r\n\r\ntext\r\n"
DAY = 86_400
RUA = "v=DMARC1; p=reject; rua=mailto:reports@a.test"
ASKING = parse_record(RUA.encode())


@pytest.fixture
async def bench(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone |= {"_dmarc.a.test": {"TXT": [RUA]}, "_dmarc.b.test": {"TXT": [RUA]}}
    async with make(fake_clock, fake_resolver, tmp_path) as bench:
        yield bench


def make(fake_clock, fake_resolver, tmp_path, **settings):
    given = {"org_name": "RX", "email": "reports@rx.test", **settings}
    return PluginBench(DmarcReports, given, clock=fake_clock, dns=fake_resolver, state_dir=tmp_path)


async def judge(bench, status=AuthStatus.FAIL, domain="a.test", record=ASKING, **changes):
    """Let a message come as far as DMARC, which says this."""
    passed = status is AuthStatus.PASS
    fields = {
        "author_domain": domain,
        "policy_domain": domain,
        "policy": "reject",
        "published": "reject",
        "disposition": "none" if passed else "reject",
        "dkim_aligned": passed,
    }
    about = bench.session.message.authentication
    about.dmarc = DmarcVerdict(status, **{**fields, **changes})
    about.dmarc_record = record
    about.spf = SpfVerdict(AuthStatus.SOFTFAIL, "b.test")
    about.dkim = (DkimVerdict(AuthStatus.PASS if passed else AuthStatus.FAIL, "a.test", "s"),)


async def bring(bench, *, kept=True, sender="x@b.test", content=MESSAGE, **verdict):
    """Let a message come; `kept` says whether it gets beyond DMARC."""
    await bench.mail_from(sender)
    await bench.rcpt_to("me@rx.test")
    await bench.headers(content)
    await judge(bench, **verdict)
    if kept:
        await bench.enqueue(content)


async def seen(bench):
    await bench.plugin.write_down()
    return bench.plugin._store.periods()


def tomorrow(bench):
    """All reports on what is seen now are due."""
    bench.clock.advance(DAY + 2 * 3600 + 60)


def open_letter(letter):
    message = email.message_from_bytes(letter.content, policy=email.policy.SMTP)
    _, attachment = message.iter_parts()
    return message, read_feedback(gzip.decompress(attachment.get_content()))


async def test_a_day_of_mail_becomes_a_report(bench):
    await bench.connect("203.0.113.9")
    await bring(bench, status=AuthStatus.PASS)
    await bring(bench, status=AuthStatus.PASS)
    await bring(bench, kept=False)  # refused: nobody asks about it any more
    await bench.disconnect()
    await bench.plugin.write_down()
    await bench.plugin.send_due()
    assert bench.mail.messages == []  # the day is not over
    tomorrow(bench)
    await bench.plugin.send_due()
    (letter,) = bench.mail.messages
    assert (letter.sender, letter.recipients) == ("", ("reports@a.test",))
    message, told = open_letter(letter)
    assert message["From"] == "RX <reports@rx.test>"
    assert message["Subject"].startswith("Report Domain: a.test Submitter: rx.test Report-ID: <")
    begin = 1_700_000_000 - 1_700_000_000 % DAY
    span = {"begin": str(begin), "end": str(begin + DAY - 1)}
    assert told["report_metadata"]["date_range"] == span
    assert told["policy_published"]["p"] == "reject"
    rows = {each["row"]["policy_evaluated"]["disposition"]: each for each in told["record"]}
    assert rows["pass"]["row"]["count"] == "2"
    assert rows["pass"]["row"]["source_ip"] == "203.0.113.9"
    assert rows["pass"]["row"]["policy_evaluated"]["dkim"] == "pass"
    assert rows["reject"]["row"]["count"] == "1"
    assert rows["reject"]["identifiers"] == {"header_from": "a.test", "envelope_from": "b.test"}
    await bench.plugin.send_due()
    assert len(bench.mail.messages) == 1
    assert bench.count("reports", outcome="sent") == 1


async def test_a_refused_message_is_counted_however_the_session_goes_on(bench):
    await bring(bench, kept=False)
    (period,) = await seen(bench)  # it stays open, and time passes
    assert period.messages == 1
    await bring(bench, kept=False)
    await bring(bench, kept=False)
    await bench.disconnect()
    (period,) = await seen(bench)
    assert period.messages == 3


async def test_a_message_is_counted_once(bench):
    await bench.mail_from("x@b.test")
    await bench.headers(MESSAGE)
    await judge(bench)
    await bench.plugin.write_down()
    await bench.enqueue(MESSAGE)
    await bench.disconnect()
    (period,) = await seen(bench)
    assert period.messages == 1


async def test_what_is_not_counted(bench):
    await bring(bench, record=parse_record(b"v=DMARC1; p=reject"))
    await bring(bench, record=None)
    await bring(bench, status=AuthStatus.TEMPERROR)
    await bring(bench, status=AuthStatus.NONE)
    await bench.mail_from("x@b.test")
    await bench.headers(MESSAGE)  # and nobody has judged it
    await bench.enqueue(MESSAGE)
    await bench.connect("203.0.113.9", username="someone")
    await bring(bench)
    await bench.disconnect()
    assert await seen(bench) == []


async def test_reports_cause_no_reports(bench):
    automatic = b"Auto-Submitted: auto-generated\r\n"
    await bring(bench, content=automatic + MESSAGE)
    await bring(bench, content=b"X: y\r\nauto-submitted :\tauto-replied\r\n" + MESSAGE)
    await bring(bench, content=b"Subject: Report Domain: rx.test\r\n" + MESSAGE)
    await bring(bench, sender="")
    await bench.plugin.write_down()
    tomorrow(bench)
    await bench.plugin.send_due()
    assert bench.mail.messages == []
    (period,) = await seen(bench)
    assert (period.messages, period.people, period.state) == (4, 0, "nothing")


async def test_mail_of_people_brings_all_into_the_report(bench):
    await bring(bench, content=b"Auto-Submitted: auto-generated\r\n" + MESSAGE)
    await bring(bench, content=b"Auto-Submitted: no\r\n" + MESSAGE)
    await bench.plugin.write_down()
    tomorrow(bench)
    await bench.plugin.send_due()
    _, told = open_letter(bench.mail.messages[0])
    assert told["record"][0]["row"]["count"] == "2"


async def report(bench, zone=None, **verdict):
    """Bring a message, and let its report be due with the DNS as it is then."""
    await bring(bench, **verdict)
    await bench.plugin.write_down()
    bench.dns.zone |= zone or {}
    tomorrow(bench)
    await bench.plugin.send_due()
    return (await seen(bench))[0]


async def test_others_have_to_agree(bench):
    record = {"TXT": ["v=DMARC1; p=none; rua=mailto:x@victim.test,mailto:y@consenting.test"]}
    zone = {"_dmarc.a.test": record, "a.test._report._dmarc.consenting.test": {"TXT": ["v=DMARC1"]}}
    period = await report(bench, zone)
    assert [each.recipients for each in bench.mail.messages] == [("y@consenting.test",)]
    assert period.outcome == (
        "to y@consenting.test; "
        "mailto:x@victim.test: victim.test does not say that it wants reports on a.test"
    )


async def test_nobody_agrees(bench):
    record = {"TXT": ["v=DMARC1; p=none; rua=mailto:x@victim.test"]}
    period = await report(bench, {"_dmarc.a.test": record})
    assert bench.mail.messages == []
    assert (period.state, period.letters) == ("nothing", 0)


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        ([], "the domain has no record any more"),
        (["v=DMARC1; p=none"], "the domain wants no reports any more"),
    ],
)
async def test_a_domain_that_wants_none_any_more(bench, record, outcome):
    period = await report(bench, {"_dmarc.a.test": {"TXT": record}})
    assert bench.mail.messages == []
    assert (period.state, period.outcome) == ("nothing", outcome)


@pytest.mark.parametrize("name", ["_dmarc.a.test", "a.test._report._dmarc.rx.test"])
async def test_an_outage_of_the_dns_is_waited_for(bench, name):
    wish = {"_dmarc.a.test": {"TXT": ["v=DMARC1; p=none; rua=mailto:x@rx.test"]}}
    period = await report(bench, {**wish, name: None})
    assert period.state == "open"
    assert bench.mail.messages == []
    bench.dns.zone |= {**wish, "a.test._report._dmarc.rx.test": {"TXT": ["v=DMARC1"]}}
    bench.clock.advance(1799)
    await bench.plugin.send_due()
    assert bench.mail.messages == []
    bench.clock.advance(1)
    await bench.plugin.send_due()
    assert len(bench.mail.messages) == 1


async def test_it_is_given_up_after_days(bench):
    period = await report(bench, {"_dmarc.a.test": None})
    for _ in range(200):
        bench.clock.advance(1800)
        await bench.plugin.send_due()
    (period,) = await seen(bench)
    assert period.state == "given up"
    assert period.attempts < 150


async def test_a_queue_that_is_full_is_waited_for(bench):
    bench.mail.refusal = "452 4.3.1 Insufficient system storage"
    period = await report(bench)
    assert (period.state, period.outcome) == (
        "open",
        "reports@a.test: 452 4.3.1 Insufficient system storage",
    )
    bench.mail.refusal = ""
    bench.clock.advance(1800)
    await bench.plugin.send_due()
    assert len(bench.mail.messages) == 1


async def test_a_report_that_is_sent_again_has_the_same_name(bench):
    execute = bench.plugin._store._connection.execute
    execute("CREATE TRIGGER full BEFORE DELETE ON rows BEGIN SELECT RAISE(ABORT, 'full'); END")
    assert (await report(bench)).state == "open"  # the letter is gone, and nobody knows
    execute("DROP TRIGGER full")
    bench.clock.advance(1800)
    await bench.plugin.send_due()
    first, second = bench.mail.messages
    (message, told), (again, told_again) = open_letter(first), open_letter(second)
    assert message["Message-ID"] == again["Message-ID"]
    assert message["Subject"] == again["Subject"]
    assert told == told_again


async def test_a_size_that_is_asked_for_is_kept(bench):
    record = {"TXT": ["v=DMARC1; p=none; rua=mailto:x@a.test!1k,mailto:y@a.test!1m"]}
    period = await report(bench, {"_dmarc.a.test": record})
    assert [each.recipients for each in bench.mail.messages] == [("y@a.test",)]
    assert "it takes 1024" in period.outcome


async def test_who_takes_none_of_that_size_is_not_tried_again(bench):
    record = {"TXT": ["v=DMARC1; p=none; rua=mailto:x@a.test!1k"]}
    assert (await report(bench, {"_dmarc.a.test": record})).state == "nothing"


async def test_a_large_report_comes_in_several_letters(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone["_dmarc.a.test"] = {"TXT": [RUA]}
    async with make(fake_clock, fake_resolver, tmp_path, max_size=1000) as bench:
        for number in range(200):
            await bench.connect(f"2001:db8::{number:x}")
            await bring(bench)
        await bench.disconnect()
        period = await report(bench)
        opened = [open_letter(each) for each in bench.mail.messages]
        assert period.letters == len(opened) > 1
        assert len({message["Message-ID"] for message, _ in opened}) == len(opened)
        assert sum(len(told["record"]) for _, told in opened) == 200


async def test_bounces_go_where_the_operator_says(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone["_dmarc.a.test"] = {"TXT": [RUA]}
    async with make(fake_clock, fake_resolver, tmp_path, bounces="bounces@rx.test") as bench:
        await report(bench)
        assert bench.mail.messages[0].sender == "bounces@rx.test"


async def test_no_report_begins_while_the_server_stops(bench):
    await bring(bench)
    await bench.plugin.write_down()
    tomorrow(bench)
    await bench.run("on_server_stopping")
    await bench.plugin.send_due()
    assert bench.mail.messages == []
    assert (await seen(bench))[0].state == "open"


async def test_letters_of_a_day_are_bounded(fake_clock, fake_resolver, tmp_path):
    domains = [f"d{number}.test" for number in range(5)]
    for domain in domains:
        text = f"v=DMARC1; p=none; rua=mailto:reports@{domain}"
        fake_resolver.zone[f"_dmarc.{domain}"] = {"TXT": [text]}
    async with make(fake_clock, fake_resolver, tmp_path, max_letters=3) as bench:
        for domain in domains:
            await bring(bench, domain=domain)
        await bench.plugin.write_down()
        tomorrow(bench)
        await bench.plugin.send_due()
        assert len(bench.mail.messages) == 3
        bench.clock.advance(DAY + 1)
        await bench.plugin.send_due()
        assert len(bench.mail.messages) == 5


async def test_one_domain_leaves_letters_for_others(fake_clock, fake_resolver, tmp_path):
    greedy = ["greedy.test", *(f"d{number}.greedy.test" for number in range(9))]
    domains = [*greedy, "notgreedy.test", "z.test"]
    for domain in domains:
        text = f"v=DMARC1; p=none; rua=mailto:reports@{domain}"
        fake_resolver.zone[f"_dmarc.{domain}"] = {"TXT": [text]}
    options = {"max_letters": 6, "max_letters_per_domain": 3}
    async with make(fake_clock, fake_resolver, tmp_path, **options) as bench:
        for domain in domains:
            await bring(bench, domain=domain)
        await bench.plugin.write_down()
        tomorrow(bench)
        await bench.plugin.send_due()
        sent = {each.recipients[0].partition("@")[2] for each in bench.mail.messages}
        assert {"notgreedy.test", "z.test"} < sent
        assert len(sent) == 5
        waiting = [each for each in await seen(bench) if each.state == "open"]
        assert len(waiting) == 7
        assert "enough reports have been sent for a day" in waiting[0].outcome
        bench.clock.advance(DAY + 1)
        await bench.plugin.send_due()
        assert len(bench.mail.messages) == 8


async def test_excluded_domains(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone |= {f"_dmarc.{each}": {"TXT": [RUA]} for each in ("a.test", "nota.test")}
    async with make(fake_clock, fake_resolver, tmp_path, exclude=("A.test.",)) as bench:
        for domain in ("a.test", "b.a.test", "nota.test"):
            await bring(bench, domain=domain)
        await bench.plugin.write_down()
        tomorrow(bench)
        await bench.plugin.send_due()
        outcomes = {each.domain: each.outcome for each in bench.plugin._store.periods()}
    assert outcomes["a.test"] == outcomes["b.a.test"] == "the domain is excluded"
    assert outcomes["nota.test"].startswith("mailto:")


async def test_what_was_seen_survives_the_worker(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone["_dmarc.a.test"] = {"TXT": [RUA]}
    async with make(fake_clock, fake_resolver, tmp_path) as bench:
        await bring(bench)  # it is written down when the plugin ends
    async with make(fake_clock, fake_resolver, tmp_path) as bench:
        tomorrow(bench)
        await bench.plugin.send_due()
        assert len(bench.mail.messages) == 1


async def test_two_workers_send_one_report(fake_clock, fake_resolver, tmp_path):
    fake_resolver.zone["_dmarc.a.test"] = {"TXT": [RUA]}
    first, second = (make(fake_clock, fake_resolver, tmp_path) for _ in range(2))
    async with first, second:
        await bring(first)
        await bring(second)
        await first.plugin.write_down()
        await second.plugin.write_down()
        tomorrow(first)
        await first.plugin.send_due()
        await second.plugin.send_due()
    (letter,) = first.mail.messages + second.mail.messages
    assert open_letter(letter)[1]["record"][0]["row"]["count"] == "2"


async def test_a_database_that_fails_loses_nothing(bench):
    store = bench.plugin._store
    await bring(bench)
    store._connection.execute("ALTER TABLE rows RENAME TO gone")
    with pytest.raises(Exception, match="no such table"):
        await bench.plugin.write_down()
    store._connection.execute("ALTER TABLE gone RENAME TO rows")
    (period,) = await seen(bench)
    assert period.messages == 1


async def test_memory_is_bounded(bench, monkeypatch):
    monkeypatch.setattr("elemta.plugins.builtin.dmarc_reports.gathering.MAX_WAITING", 2)
    for number in range(5):
        await bench.connect(f"192.0.2.{number}")
        await bring(bench)
    await bench.plugin.write_down()
    (period,) = await seen(bench)
    assert period.messages == 2
    assert bench.count("lost") == 3


async def test_old_periods_are_forgotten(bench):
    await report(bench)
    bench.clock.advance(31 * DAY)
    await bench.plugin.send_due()
    assert await seen(bench) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"email": "no address"},
        {"email": "x@[192.0.2.1]"},
        {"interval": 5},
        {"interval": 1, "spread": 3601},
        {"max_size": 1},
    ],
)
def test_settings_that_are_refused(fake_clock, fake_resolver, tmp_path, settings):
    with pytest.raises(ValueError, match="validation error"):
        make(fake_clock, fake_resolver, tmp_path, **settings)
