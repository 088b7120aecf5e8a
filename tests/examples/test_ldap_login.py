"""The example plugin that asks a directory, with a real one."""

import socket

import pytest
from pydantic import ValidationError
from servers.process import free_port
from servers.slapd import ADMIN, ADMIN_PASSWORD, BASE, USERS, run_slapd

from tests.examples.stage import Stage, find_example, said

pytestmark = [  # ldap3 uses old names of pyasn1 and of ssl
    pytest.mark.filterwarnings("ignore:(tagMap|typeMap) is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning"),
]
WRONG = "550 5.7.1 Authentication credentials invalid"  # the server makes it 535
DOWN = "451 4.7.1 The directory cannot be asked"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    with run_slapd(tmp_path_factory.mktemp("directory")) as found:
        yield found


@pytest.fixture
async def login(slapd):
    """Ask about a login."""
    async with Stage("ldap_login", uri=slapd.uri, base=BASE) as stage:

        async def ask(user, password, mechanism="PLAIN"):
            answer = await stage.auth_start(user, password, mechanism)
            assert not answer.error
            return said(answer)

        yield ask


async def test_right_and_wrong(login):
    for user, password in USERS.items():
        assert await login(user, password) == "accept"
        assert await login(user.upper(), password, "LOGIN") == "accept"
        assert await login(user, password + "x") == WRONG
    assert await login("alice", "WONDERLAND") == WRONG
    assert await login("nobody", "wonderland") == WRONG


@pytest.mark.parametrize(
    "user",
    [
        *("*", "al*", "alice*", "alice)(uid=*", "*)(uid=*", "*)(|(uid=*", "alice)(objectClass=*)"),
        *("alice\0", "\0", "\\2a", "alice\\", "ali\\63e", "(", ")", "&", "alice,ou=people"),
        *("cn=user 0,ou=people," + BASE, "twin", "x" * 320, "ünï", "\n", '"alice"', "{login}"),
    ],
)
async def test_nobody_is_found_by_tricks(login, user):
    for password in ("wonderland", "same"):
        assert await login(user, password) == WRONG


@pytest.mark.parametrize("password", ["", "\0", "*", " ", "wonderland\0", "\0wonderland", "{SSHA}"])
async def test_no_password_is_none(login, password):
    assert await login("alice", password) == WRONG


async def test_an_empty_password_never_reaches_the_directory(slapd):
    """There it would be a bind as nobody, which succeeds."""
    async with Stage("ldap_login", uri=slapd.uri, base=BASE) as stage:
        await stage.auth_start("alice", "wrong")
        assert stage.plugin.ask("alice", "") == "no password"


async def test_what_has_no_password_is_no_business_of_it(login):
    assert await login("alice", "", "SCRAM-SHA-256") == ""


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
async def test_tls(slapd, way, tmp_path):
    settings = {"uri": slapd.tls_uri if way == "ldaps" else slapd.uri, "starttls": way != "ldaps"}
    settings["uri"] = settings["uri"].replace("127.0.0.1", "localhost")
    good = {**settings, "base": BASE, "ca_file": str(slapd.authority)}
    async with Stage("ldap_login", **good) as stage:
        assert said(await stage.auth_start("alice", "wonderland")) == "accept"
        assert said(await stage.auth_start("alice", "wrong")) == WRONG
    async with Stage("ldap_login", **settings, base=BASE) as stage:  # nobody vouches for it
        assert said(await stage.auth_start("alice", "wonderland")) == DOWN


async def test_users_are_looked_for_under_a_name(slapd):
    about = {"uri": slapd.uri, "base": BASE, "bind_dn": ADMIN}
    async with Stage("ldap_login", **about, bind_password=ADMIN_PASSWORD) as stage:
        assert said(await stage.auth_start("alice", "wonderland")) == "accept"
    async with Stage("ldap_login", **about, bind_password="changed") as stage:
        assert said(await stage.auth_start("alice", "wonderland")) == DOWN


async def test_a_directory_that_is_away_refuses_nobody():
    async with Stage("ldap_login", uri=f"ldap://127.0.0.1:{free_port()}", base=BASE) as stage:
        for password in ("wonderland", "wrong"):
            assert said(await stage.auth_start("alice", password)) == DOWN
        assert stage.count("directory_errors") == 2


async def test_a_directory_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"ldap://127.0.0.1:{silent.getsockname()[1]}"
        async with Stage("ldap_login", uri=uri, base=BASE, timeout=1) as stage:
            assert said(await stage.auth_start("alice", "wonderland")) == DOWN


async def test_a_wrong_base_refuses_nobody_but_those_who_are_not_there(slapd):
    async with Stage("ldap_login", uri=slapd.uri, base="dc=elsewhere") as stage:
        assert said(await stage.auth_start("alice", "wonderland")) in {WRONG, DOWN}


@pytest.mark.parametrize(
    "settings",
    [
        {"uri": "ldap://192.0.2.1"},
        {"uri": "ldap://ldap.example.test"},
        {"uri": "http://127.0.0.1"},
        {"uri": "ldaps://"},
        {"filter": "(uid=*)"},
        {"bind_dn": ADMIN},
    ],
)
def test_settings_that_are_refused(settings):
    with pytest.raises(ValidationError):
        find_example("ldap_login").Settings(**settings)
