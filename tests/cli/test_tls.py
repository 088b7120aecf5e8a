"""`elemta tls`: a certificate to begin with, and what TLS comes to."""

import json
import stat
import time

import pytest
from click.testing import CliRunner
from cryptography import x509

from elemta.cli.main import cli
from elemta.net.tls.certificates import CertificateFiles, read_certificate
from elemta.net.tls.levels import Level


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, text: str = '[server]\nhostname = "mx.example.test"\n'):
        (tmp_path / "elemta.toml").write_text(text)
        return CliRunner().invoke(cli, ["tls", *arguments, "-c", "elemta.toml"])

    return call


def names_in(path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName)} | {
        str(each) for each in names.get_values_for_type(x509.IPAddress)
    }


class TestSelfsigned:
    def test_it_is_good_for_every_level(self, run, tmp_path):
        result = run("selfsigned", "--days", "30")
        assert result.exit_code == 0
        assert '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n' in result.output
        assert names_in(tmp_path / "cert.pem") == {"mx.example.test", "localhost"}
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
        for level in Level:
            found = read_certificate(files, level, time.time())
        assert found.days_left(time.time()) == pytest.approx(30, abs=0.1)

    def test_where_the_configuration_wants_it(self, run, tmp_path):
        text = '[tls]\ncertificate = "mail.crt"\nkey = "mail.key"\n'
        result = run("selfsigned", "mail.example.test", "192.0.2.1", text=text)
        assert result.exit_code == 0
        assert names_in(tmp_path / "mail.crt") == {"mail.example.test", "192.0.2.1"}
        assert "[tls]" not in result.output

    def test_both_in_one_file(self, run, tmp_path):
        assert run("selfsigned", text='[tls]\ncertificate = "both.pem"\n').exit_code == 0
        both = tmp_path / "both.pem"
        assert stat.S_IMODE(both.stat().st_mode) == 0o600
        assert read_certificate(CertificateFiles(both, both), Level.MAXIMUM, time.time())

    @pytest.mark.parametrize("there", ["cert.pem", "key.pem"])
    def test_what_is_there_stays(self, run, tmp_path, there):
        (tmp_path / there).write_text("mine")
        result = run("selfsigned")
        assert result.exit_code == 1
        assert f"{there}: File exists" in result.output
        assert [path.name for path in tmp_path.glob("*.pem")] == [there]
        assert (tmp_path / there).read_text() == "mine"

    def test_names_that_are_none(self, run):
        result = run("selfsigned", "not a name")
        assert result.exit_code == 1
        assert "a host name or IP address is expected" in result.output

    def test_for_programs(self, run):
        told = json.loads(run("selfsigned", "--json").output)
        assert told["names"] == ["mx.example.test", "localhost"]
        assert told["days"] == 365


def test_status_of_a_server_that_does_not_run(run):
    assert run("status").exit_code == 75
