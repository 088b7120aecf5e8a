"""The folder of keys: what is written there, who may read it, and what is refused."""

import os
import stat
import threading

import msgspec
import pytest

from elemta.plugins.builtin.dkim.keystore import (
    KeyEntry,
    KeyState,
    KeyStore,
    KeyStoreError,
    read_private,
)

ENTRY = KeyEntry("s1", "ed25519", "AAAA", 256, created_at=5.0)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "state" / "dkim")


def add(store, entry=ENTRY, domain="example.test"):
    return store.edit(domain, lambda there: (*there, entry), {entry.selector: b"secret"})


def test_nothing_is_there_yet(store):
    assert store.domains() == []
    assert store.entries("example.test") == ()
    assert store.stamp("example.test") is None


def test_what_is_added_is_found(store):
    assert add(store) == (ENTRY,)
    add(store, msgspec.structs.replace(ENTRY, selector="s2"))
    add(store, domain="other.test")
    assert store.domains() == ["example.test", "other.test"]
    assert [each.selector for each in store.entries("example.test")] == ["s1", "s2"]
    assert store.private_key("example.test", "s2") == b"secret"


def test_only_the_owner_can_read_anything(store):
    add(store)
    for path in (store.folder, *store.folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_server(store):
    store.folder.parent.mkdir()
    os.chown(store.folder.parent, 12345, 12345)
    add(store)
    for path in (store.folder, *store.folder.rglob("*")):
        assert path.stat().st_uid == 12345, path
    assert store.private_key("example.test", "s1") == b"secret"


def test_a_change_is_seen(store):
    add(store)
    before = store.stamp("example.test")
    active = msgspec.structs.replace(ENTRY, state=KeyState.ACTIVE)
    store.edit("example.test", lambda _: (active,))
    assert store.stamp("example.test") != before
    assert store.entries("example.test") == (active,)


def test_no_change_writes_nothing(store):
    add(store)
    before = store.stamp("example.test")
    store.edit("example.test", lambda there: there)
    assert store.stamp("example.test") == before


def test_no_key_is_overwritten(store):
    add(store)
    other = msgspec.structs.replace(ENTRY, public="BBBB")
    with pytest.raises(KeyStoreError, match=r"s1\.pem: is there already"):
        store.edit("example.test", lambda _: (other,), {"s1": b"other"})
    assert store.private_key("example.test", "s1") == b"secret"
    assert store.entries("example.test") == (ENTRY,)


def test_a_secret_can_be_destroyed(store):
    add(store)
    store.destroy("example.test", "s1")
    store.destroy("example.test", "s1")
    with pytest.raises(KeyStoreError, match="No such file"):
        store.private_key("example.test", "s1")


def test_changes_at_the_same_time_are_all_kept(store):
    def work(number):
        entry = msgspec.structs.replace(ENTRY, selector=f"s{number}")
        add(KeyStore(store.folder), entry)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.entries("example.test")) == 16


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "key.pem"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(KeyStoreError, match=rf"mode {mode:04o}\): chmod 600 {path}"):
        read_private(path)
    path.chmod(0o400)
    assert read_private(path) == b"secret"


def test_what_is_no_key_file_is_refused(tmp_path):
    with pytest.raises(KeyStoreError, match="Is a directory"):
        read_private(tmp_path)
    large = tmp_path / "large"
    large.write_bytes(bytes(100_000))
    large.chmod(0o600)
    with pytest.raises(KeyStoreError, match="larger than 64KiB"):
        read_private(large)


@pytest.mark.parametrize(
    "domain", ["", "..", "../x", "a/b", "/etc", ".", "EXAMPLE.test", "[192.0.2.1]", "a\0b", "a..b"]
)
def test_names_that_lead_elsewhere_are_refused(store, domain):
    with pytest.raises(KeyStoreError, match="not a domain"):
        store.entries(domain)


@pytest.mark.parametrize("selector", ["", "..", "../x", "a/b", ".a", "A", "a b", "x" * 64, "a\n"])
def test_selectors_that_lead_elsewhere_are_refused(store, selector):
    with pytest.raises(KeyStoreError, match="not a selector"):
        store.key_path("example.test", selector)
    assert store.key_path("example.test", "a.b-2").name == "a.b-2.pem"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"domain": "example.test", "keys": [{"selector": "s"}]}',
        b'{"domain": "example.test", "keys": [], "more": 1}',
    ],
)
def test_a_broken_index_is_an_error(store, content):
    add(store)
    (store.folder / "example.test" / "keys.json").write_bytes(content)
    with pytest.raises(KeyStoreError, match=r"keys\.json: is not as it was written"):
        store.entries("example.test")


def test_an_index_that_leads_elsewhere_is_an_error(store):
    add(store)
    index = store.folder / "example.test" / "keys.json"
    index.write_bytes(index.read_bytes().replace(b'"s1"', b'"../s1"'))
    with pytest.raises(KeyStoreError, match="not a selector"):
        store.entries("example.test")
