"""The mail that brings a report."""

import email
import email.policy
import gzip
from dataclasses import replace

import pytest
from mailauth.reports.reporting import REPORTER, report

from elemta.mail.address import parse_address
from elemta.mailauth.reports import write_files, write_letter

AT = 1_700_006_461.5


def write(of=None, to="reports@a.test", number=0):
    of = of or report()
    (file,) = write_files(of, 25_000_000)
    author = parse_address("reports@rx.test")
    return file, write_letter(of, file, author, parse_address(to), AT, number)


def read(letter):
    return email.message_from_bytes(letter, policy=email.policy.SMTP)


def test_fields():
    file, letter = write()
    message = read(letter)
    assert message["From"] == "Receiver & Sons <reports@rx.test>"
    assert message["To"] == "reports@a.test"
    assert message["Date"] == "Wed, 15 Nov 2023 00:01:01 +0000"
    subject = f"Report Domain: a.test Submitter: rx.test Report-ID: <{file.report_id}>"
    assert message["Subject"] == subject
    assert message["Message-ID"] == f"<{file.report_id}.0@rx.test>"
    assert message["Auto-Submitted"] == "auto-generated"


def test_the_report_is_attached():
    file, letter = write()
    words, attachment = read(letter).iter_parts()
    assert words.get_content_type() == "text/plain"
    assert "Period:      2023-11-14 00:00 to 2023-11-15 00:00 UTC" in words.get_content()
    assert "Messages:    3" in words.get_content()
    assert attachment.get_content_type() == "application/gzip"
    assert attachment.get_filename() == file.name
    assert gzip.decompress(attachment.get_content()) == file.xml


def test_the_same_file_for_another_is_another_message():
    assert write(number=1)[1] != write(number=0)[1]


@pytest.mark.parametrize(
    "name",
    ['"; <x@evil.test>, "', "a\r\nBcc: x@evil.test", "a\\", "Bücher, GmbH <x@evil.test>", ""],
)
def test_no_name_breaks_out(name):
    _, letter = write(report(reporter=replace(REPORTER, organization=name)))
    message = read(letter)
    (author,) = message["From"].addresses
    assert author.addr_spec == "reports@rx.test"
    assert "Bcc" not in message
    assert len(list(message.iter_parts())) == 2


def test_lines_are_short_and_of_seven_bits():
    domain = ".".join(["a" * 60] * 4)
    published = replace(report().published, domain=domain)
    _, letter = write(report(published=published), to=f"reports@{domain}")
    assert letter.isascii()
    assert letter.endswith(b"\r\n")
    assert letter.count(b"\n") == letter.count(b"\r\n") == letter.count(b"\r")
    assert max(map(len, letter.split(b"\r\n"))) <= 998
