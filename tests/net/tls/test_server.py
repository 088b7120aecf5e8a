"""The TLS of a listener: names, client certificates, protocols, and files that change."""

import hashlib
import resource
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from net.tls.handshakes import client_context, shake_hands
from servers.certificates import Authority, key_of

from elemta.mail.errors import ConfigError
from elemta.net.clock import SystemClock
from elemta.net.tls.certificates import CertificateFiles
from elemta.net.tls.identities import Identities
from elemta.net.tls.levels import Level
from elemta.net.tls.server import (
    RETRY_AFTER,
    ClientCertificates,
    Reloaded,
    ServerTls,
    ServerTlsSettings,
)
from elemta.testing import FakeClock

HOUR = 3600.0


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def issued(authority):
    return authority.issue("mx.example.test")


@pytest.fixture
def clock():
    return FakeClock(SystemClock().now())


def files(*issued) -> tuple[CertificateFiles, ...]:
    return tuple(CertificateFiles(each.chain, each.key_file) for each in issued)


def shown(tls: ServerTls, name: str | None = None, client: ssl.SSLContext | None = None) -> bytes:
    """The certificate that a client gets."""
    shaken = shake_hands(tls.context(), client or client_context(), name)
    return shaken.client.getpeercert(binary_form=True)


class TestNames:
    @pytest.fixture
    def certificates(self, authority):
        return {
            "first": authority.issue("mx.example.test", file="first"),
            "exact": authority.issue("mail.example.org", "MAIL.example.net", file="exact"),
            "wildcard": authority.issue("*.example.org", file="wildcard"),
        }

    @pytest.fixture
    def tls(self, certificates, clock):
        return ServerTls(ServerTlsSettings(files(*certificates.values())), clock)

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            (None, "first"),
            ("mx.example.test", "first"),
            ("mail.example.org", "exact"),
            ("Mail.Example.NET", "exact"),
            ("other.example.org", "wildcard"),
            ("deep.other.example.org", "first"),
            ("example.org", "first"),
            ("stranger.test", "first"),
        ],
    )
    def test_the_certificate_for_a_name(self, tls, certificates, name, wanted):
        assert shown(tls, name) == certificates[wanted].der

    def test_a_strict_listener_refuses_other_names(self, certificates, clock):
        settings = ServerTlsSettings(files(*certificates.values()), strict_sni=True)
        tls = ServerTls(settings, clock)
        assert shown(tls, "mail.example.org") == certificates["exact"].der
        assert shown(tls) == certificates["first"].der
        with pytest.raises(ssl.SSLError):
            shown(tls, "stranger.test")

    def test_names_of_the_configuration(self, certificates, clock):
        named = CertificateFiles(
            certificates["exact"].chain, certificates["exact"].key_file, ("other.test",)
        )
        tls = ServerTls(ServerTlsSettings((*files(certificates["first"]), named)), clock)
        assert shown(tls, "other.test") == certificates["exact"].der
        assert shown(tls, "mail.example.org") == certificates["first"].der

    @pytest.mark.parametrize("name", [None, "mx.example.test", "mail.example.org"])
    def test_two_keys_side_by_side(self, authority, clock, name):
        pairs = [
            authority.issue(host, key=key, file=f"{host}-{key}")
            for host in ("mx.example.test", "mail.example.org")
            for key in ("p256", "rsa2048")
        ]
        tls = ServerTls(ServerTlsSettings(files(*pairs)), clock)
        begin = 2 if name == "mail.example.org" else 0
        for place, suite in enumerate(
            ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256")
        ):
            client = client_context(ssl.TLSVersion.TLSv1_2)
            client.set_ciphers(suite)
            assert shown(tls, name, client) == pairs[begin + place].der


class TestProtocols:
    def offer(self, issued, clock, *protocols: str, strict: bool = True) -> str | None:
        tls = ServerTls(ServerTlsSettings(files(issued), strict_alpn=strict), clock)
        client = client_context()
        if protocols:
            client.set_alpn_protocols(protocols)
        return shake_hands(tls.context(), client).client.selected_alpn_protocol()

    def test_smtp_and_nothing_are_fine(self, issued, clock):
        assert self.offer(issued, clock) is None
        assert self.offer(issued, clock, "smtp") == "smtp"
        assert self.offer(issued, clock, "http/1.1", "esmtp") == "esmtp"

    @pytest.mark.parametrize("protocol", ["h2", "http/1.1", "imap", "smt", "smtps"])
    def test_others_get_an_alert(self, issued, clock, protocol):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            self.offer(issued, clock, protocol)

    def test_others_may_be_let_in(self, issued, clock):
        assert self.offer(issued, clock, "h2", strict=False) is None


class TestClientCertificates:
    def connect(self, authority, clock, mode, client_certificate=None, **settings):
        mine = authority.issue("mx.example.test")
        tls = ServerTls(
            ServerTlsSettings(
                files(mine),
                client_certificates=ClientCertificates(mode),
                client_ca=authority.file,
                **settings,
            ),
            clock,
        )
        context = client_context()
        if client_certificate is not None:
            context.load_cert_chain(client_certificate.chain, client_certificate.key_file)
        shaken = shake_hands(tls.context(), context)
        return tls.identify(shaken.server.getpeercert(binary_form=True) or b"")

    @pytest.fixture
    def stranger(self, tmp_path):
        (tmp_path / "other").mkdir()
        return Authority(tmp_path / "other", "Nobody").issue("client.example.test", file="client")

    @pytest.fixture
    def client(self, authority):
        return authority.issue("client.example.test", emails=("Anna@Example.TEST",), file="client")

    def test_nobody_is_asked(self, authority, clock, stranger):
        login = {f"sha256:{hashlib.sha256(stranger.der).hexdigest()}": "anna"}
        assert not self.connect(authority, clock, "none", stranger, identities=tuple(login.items()))

    def test_one_that_nobody_knows_does_not_block(self, authority, clock, stranger):
        login = {"dns:client.example.test": "anna"}
        assert self.connect(authority, clock, "request") == ""
        assert (
            self.connect(authority, clock, "request", stranger, identities=tuple(login.items()))
            == ""
        )

    def test_whoever_has_the_key_of_a_known_one(self, authority, clock, stranger):
        spki = stranger.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        for key in (
            f"sha256:{hashlib.sha256(stranger.der).hexdigest()}",
            f"spki:{hashlib.sha256(spki).hexdigest()}",
        ):
            login = {key: "anna@example.test"}
            found = self.connect(
                authority, clock, "request", stranger, identities=tuple(login.items())
            )
            assert found == "anna@example.test"

    @pytest.mark.parametrize("mode", ["request", "require"])
    @pytest.mark.parametrize("key", ["dns:client.example.test", "email:Anna@example.test"])
    def test_names_that_an_authority_vouches_for(self, authority, clock, client, mode, key):
        assert self.connect(authority, clock, mode, client, identities=((key, "anna"),)) == "anna"

    def test_names_in_a_certificate_for_servers_alone(self, authority, clock):
        client = authority.issue(
            "client.example.test", usages=(ExtendedKeyUsageOID.SERVER_AUTH,), file="client"
        )
        login = {"dns:client.example.test": "anna"}
        assert (
            self.connect(authority, clock, "request", client, identities=tuple(login.items())) == ""
        )

    def test_names_in_an_expired_certificate(self, authority, clock):
        client = authority.issue("client.example.test", begin=-9, days=-1, file="client")
        login = {"dns:client.example.test": "anna"}
        assert (
            self.connect(authority, clock, "request", client, identities=tuple(login.items())) == ""
        )

    def test_a_certificate_that_is_no_authoritys_vouches_for_nobody(self, authority, clock):
        """Who is known must not make others known."""
        known = authority.issue("known.example.test", file="known")
        forged = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(known.certificate.subject)
            .public_key(key_of("p256", 2).public_key())
            .serial_number(1)
            .not_valid_before(known.certificate.not_valid_before_utc)
            .not_valid_after(known.certificate.not_valid_after_utc)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("client.example.test")]), critical=True
            )
            .sign(known.key, SHA256())
        )
        login = {"dns:client.example.test": "anna"}
        forged.verify_directly_issued_by(known.certificate)
        identities = Identities(login, [known.certificate])
        assert identities.find(forged.public_bytes(Encoding.DER), clock.now()) == ""

    def test_required_is_required(self, authority, clock, client, stranger):
        assert self.connect(authority, clock, "require", client) == ""
        with pytest.raises(ssl.SSLError, match=r"(?i)did.not.return.a.certificate"):
            self.connect(authority, clock, "require")
        with pytest.raises(ssl.SSLCertVerificationError):
            self.connect(authority, clock, "require", stranger)

    def test_required_by_whom(self, issued, clock):
        settings = ServerTlsSettings(files(issued), client_certificates=ClientCertificates.REQUIRE)
        with pytest.raises(ConfigError, match="client_ca"):
            ServerTls(settings, clock)

    @pytest.mark.parametrize("certificate", [b"", b"\x30", b"\x30\x82", b"x" * 20_000])
    def test_what_is_no_certificate_is_nobodys(self, issued, clock, certificate):
        settings = ServerTlsSettings(files(issued), identities=(("dns:a.test", "anna"),))
        assert ServerTls(settings, clock).identify(certificate) == ""


class TestReload:
    @pytest.fixture
    def tls(self, issued, clock):
        return ServerTls(ServerTlsSettings(files(issued)), clock)

    def test_nothing_has_changed(self, tls):
        before = tls.context()
        assert tls.look() == tls.reload()
        assert tls.look().changed == ()
        assert tls.context() is before

    def test_a_new_pair_is_used_once_it_stays_as_it_is(self, tls, authority, issued):
        fresh = authority.issue("mx.example.test")
        assert tls.look().changed == ()
        assert shown(tls) == issued.der
        assert tls.look().changed == (str(fresh.chain),)
        assert shown(tls) == fresh.der

    def test_sessions_keep_what_they_have(self, tls, authority):
        shaken = shake_hands(tls.context(), client_context())
        authority.issue("mx.example.test")
        assert tls.reload().changed
        assert shaken.resumable() is not None  # octets still go to and fro

    def test_a_half_written_pair_waits(self, tls, authority, issued):
        old_key = issued.key_file.read_bytes()
        fresh = authority.issue("mx.example.test", number=1)
        new_key = fresh.key_file.read_bytes()
        fresh.key_file.write_bytes(old_key)
        assert tls.look().problems == ()
        fresh.key_file.write_bytes(new_key)
        assert tls.look() == tls.look().__class__()
        assert shown(tls) == fresh.der

    @pytest.mark.parametrize("trouble", ["expired", "other key", "gone", "world-readable", "weak"])
    def test_a_broken_pair_is_told_once_and_the_old_one_stays(
        self, tls, authority, issued, trouble
    ):
        if trouble == "expired":
            authority.issue("mx.example.test", begin=-9, days=-1)
        elif trouble == "other key":
            key = issued.key_file.read_bytes()
            authority.issue("mx.example.test", number=1)
            issued.key_file.write_bytes(key)
        elif trouble == "gone":
            issued.chain.unlink()
        elif trouble == "world-readable":
            authority.issue("mx.example.test").key_file.chmod(0o644)
        else:
            authority.issue("mx.example.test", key="rsa1024")
        tls.look()
        found = tls.look()
        assert not found.changed
        assert len(found.problems) == 1
        assert tls.look().problems == ()
        assert shown(tls) == issued.der

    def test_a_key_is_read_again_once_its_permissions_are_mended(self, tls, authority):
        fresh = authority.issue("mx.example.test", number=1)
        fresh.key_file.chmod(0o644)
        tls.look()
        assert "chmod 600" in str(tls.look().problems[0])
        fresh.key_file.chmod(0o600)
        tls.look()
        assert tls.look().changed == (str(fresh.chain),)
        assert shown(tls) == fresh.der

    def test_a_certificate_whose_time_has_not_come_is_used_when_it_comes(
        self, tls, authority, issued, clock
    ):
        fresh = authority.issue("mx.example.test", number=1, begin=2 * RETRY_AFTER / (24 * HOUR))
        tls.look()
        assert "is not valid before" in str(tls.look().problems[0])
        clock.advance(RETRY_AFTER)
        assert tls.look() == Reloaded()  # it has been told
        assert shown(tls) == issued.der
        clock.advance(2 * RETRY_AFTER)
        assert tls.look().changed == (str(fresh.chain),)
        assert shown(tls) == fresh.der

    def test_a_broken_one_does_not_hold_up_another(self, authority, clock):
        first = authority.issue("mx.example.test", file="first")
        second = authority.issue("mail.example.org", file="second")
        tls = ServerTls(ServerTlsSettings(files(first, second)), clock)
        first.key_file.write_bytes(b"")
        fresh = authority.issue("mail.example.org", file="second")
        found = tls.reload()
        assert found.changed == (str(second.chain),)
        assert [error.where for error in found.problems] == [str(first.key_file)]
        assert shown(tls, "mail.example.org") == fresh.der
        assert shown(tls) == first.der

    def test_authorities_of_clients_change_too(self, authority, issued, clock, tmp_path):
        settings = ServerTlsSettings(
            files(issued),
            client_certificates=ClientCertificates.REQUIRE,
            client_ca=authority.file,
        )
        tls = ServerTls(settings, clock)
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other", "Other")
        client = client_context()
        mine = other.issue("client.example.test")
        client.load_cert_chain(mine.chain, mine.key_file)
        with pytest.raises(ssl.SSLError):
            shown(tls, client=client)
        authority.file.write_bytes(b"nothing")
        assert "has no certificate" in str(tls.reload().problems[0])
        authority.file.write_bytes(other.file.read_bytes())
        assert tls.reload().changed == (str(authority.file),)
        assert shown(tls, client=client) == issued.der


class TestTickets:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_keys_change(self, issued, clock, version):
        tls = ServerTls(ServerTlsSettings(files(issued), ticket_lifetime=HOUR), clock)
        client = client_context(version)
        session = shake_hands(tls.context(), client).resumable()
        assert shake_hands(tls.context(), client, session=session).server.session_reused
        clock.advance(HOUR)
        assert not shake_hands(tls.context(), client, session=session).server.session_reused

    def test_old_keys_are_better_than_no_handshake(self, issued, clock):
        tls = ServerTls(ServerTlsSettings(files(issued), ticket_lifetime=HOUR), clock)
        before = tls.context()
        clock.advance(HOUR)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            during = tls.context()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert during is before
        clock.advance(RETRY_AFTER)
        assert tls.context() is not before

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_there_need_not_be_any(self, issued, clock, version):
        tls = ServerTls(ServerTlsSettings(files(issued), ticket_lifetime=0), clock)
        client = client_context(version)
        session = shake_hands(tls.context(), client).resumable()
        assert not (session and session.has_ticket)
        assert not shake_hands(tls.context(), client, session=session).server.session_reused

    def test_another_certificate_does_not_take_them(self, authority, issued, clock):
        tls = ServerTls(ServerTlsSettings(files(issued)), clock)
        client = client_context()
        session = shake_hands(tls.context(), client).resumable()
        authority.issue("mx.example.test")
        tls.reload()
        assert not shake_hands(tls.context(), client, session=session).server.session_reused


def test_a_level_that_the_certificate_is_not_good_for(authority, clock):
    issued = authority.issue("mx.example.test", key="rsa2048")
    with pytest.raises(ConfigError, match="3072"):
        ServerTls(ServerTlsSettings(files(issued), level=Level.STRICT), clock)


def test_unknown_groups(issued, clock):
    with pytest.raises(ConfigError, match=r"tls\.groups: .* has no group P-255"):
        ServerTls(ServerTlsSettings(files(issued), groups=("P-255",)), clock)
