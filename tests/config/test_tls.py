"""The settings of TLS: what they are read to, and what contradicts itself."""

import pytest

from elemta.config import Config, load, read

LISTENER = '[server]\nhostname = "mx.example.test"\n[[listeners]]\naddress = "127.0.0.1:2525"\n'
CERTIFICATE = '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n'
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def config(tmp_path):
    def load_text(text: str) -> Config:
        path = tmp_path / "elemta.toml"
        path.write_text(text)
        return load(path, {})

    return load_text


@pytest.fixture
def told(tmp_path):
    def read_text(text: str) -> list[str]:
        path = tmp_path / "elemta.toml"
        path.write_text(text)
        return [str(each).removeprefix(f"{path}:") for each in read(path, {}).problems]

    return read_text


def test_paths_begin_at_the_folder_of_the_file(config, tmp_path):
    tls = config(LISTENER + CERTIFICATE + 'client_ca = "/etc/ca.pem"\n').tls
    assert tls.certificate == str(tmp_path / "cert.pem")
    assert tls.client_ca == "/etc/ca.pem"
    assert config(LISTENER).tls.certificate == ""


@pytest.mark.parametrize(
    ("level", "hint"),
    [("recomended", "recommended"), ("STRICT", "strict"), ("maximal", "maximum"), ("tls13", "")],
)
@pytest.mark.parametrize("setting", ["[tls]\nlevel", "tls_level"])
def test_the_nearest_level_is_told(told, level, hint, setting):
    (problem,) = told(f'{LISTENER}{setting} = "{level}"\n')
    assert f'"{level}": one of "minimum", "recommended", "strict", "maximum" is expected' in problem
    assert problem.endswith(f'did you mean "{hint}"?' if hint else "expected")


def test_certificates_and_their_logins(config):
    keys = {
        f"SHA256:{DIGEST.upper()}": "a",
        "spki:" + ":".join(DIGEST[at : at + 2] for at in range(0, 64, 2)): "b",
        "dns:Branch.Example.TEST": "c",
        "email:Anna@Example.TEST": "d",
    }
    lines = "".join(f'"{key}" = "{login}"\n' for key, login in keys.items())
    assert config(f"{LISTENER}[tls.identities]\n{lines}").tls.identities == {
        f"sha256:{DIGEST}": "a",
        f"spki:{DIGEST}": "b",
        "dns:branch.example.test": "c",
        "email:Anna@example.test": "d",
    }


@pytest.mark.parametrize(
    "line",
    [
        f'"{DIGEST}" = "a"',
        '"sha256:abcd" = "a"',
        f'"md5:{DIGEST}" = "a"',
        '"dns:" = "a"',
        '"email:anna" = "a"',
        '"dns:a.test" = 5',
        '"dns:a.test" = ""',
        '"dns:a.test" = "a\\nb"',
    ],
)
def test_logins_of_what_is_none(told, line):
    (problem,) = told(f"{LISTENER}[tls.identities]\n{line}\n")
    assert "[tls] identities" in problem


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_tls_needs_a_certificate(told, mode):
    (problem,) = told(f'{LISTENER}tls = "{mode}"\n')
    assert problem.endswith(f'"{mode}": there is no certificate: set [tls] certificate and key')


def test_where_nobody_has_tls_nothing_is_needed(told):
    assert told(LISTENER) == []
    assert told(f'{LISTENER}tls = "none"\n') == []


def test_a_unix_socket_has_none(told):
    text = '[[listeners]]\naddress = "unix:/run/lmtp"\nkind = "lmtp"\ntls = "starttls"\n'
    (problem,) = told(LISTENER + text + CERTIFICATE)
    assert "a unix socket needs no TLS" in problem


@pytest.mark.parametrize(
    "text",
    [
        LISTENER + CERTIFICATE + 'client_certificates = "require"\n',
        LISTENER + 'client_certificates = "require"\n' + CERTIFICATE,
    ],
)
def test_who_requires_certificates_says_whose(told, text):
    (problem,) = told(text)
    assert "[tls] client_ca: " in problem
    assert "is needed" in problem
    assert told(text + 'client_ca = "ca.pem"\n') == []


def test_what_nobody_is_shown(told):
    (problem,) = told(LISTENER + '[[tls.certificates]]\ncertificate = "other.pem"\n')
    assert "warning" in problem
    assert "nobody is shown these" in problem
    (problem,) = told(LISTENER + '[tls]\nkey = "key.pem"\n')
    assert "is a key without [tls] certificate" in problem
