"""What is done about results, as the operator wants it; and a DNS that does not answer."""

import json
import textwrap

import dkim
from plugins.builtin.dkim.signed import keep
from scenarios.authentic import ALL, message, parse, posting, private, record, sealed, signed
from servers.dialogue import Dialogue
from servers.logins import AUTH, PASSWORD, add_user, plain, submission

from elemta.mailauth.keys import PrivateKey

SEED = "spf_enabled = true\ndkim_enabled = true\n"
CAPPED = SEED + 'dmarc_policy = "quarantine"\n'
FORGED = b"Authentication-Results: mail.example.test; dkim=pass\r\n"


PLUGINS = '[plugins]\ndirectory = "{folder}/plugins"\n'


def write_plugin(folder, name: str, hooks: str) -> None:
    """A plugin in the folder of plugins, of these methods."""
    plugin = folder / "plugins" / f"{name}.py"
    plugin.parent.mkdir(mode=0o755, exist_ok=True)
    head = f'class Own(Plugin[Settings]):\n    metadata = Metadata(name="{name}")\n'
    body = textwrap.indent(textwrap.dedent(hooks), "    ")
    plugin.write_text(f"from elemta.plugins import *\n\n\n{head}{body}")
    plugin.chmod(0o644)


def test_spf_alone_rejects(tmp_path):
    settings = 'spf_enabled = true\n[plugins.spf]\nreceived_spf = true\non_permerror = "reject"\n'
    with posting(tmp_path, settings) as post:
        reply = post.send("fail.test")
        assert reply.startswith(
            "550 5.7.23 fail.test does not let 127.0.0.3 send its mail (SPF); "
            "fail.test explains: Ask us"
        )
        (event,) = post.server.wait_event("message_rejected", plugin="spf", stage="mail")
        assert event["reason"] == "spf=fail of mailfrom fail.test: -all"
        assert post.send("broken.test").startswith("550 5.7.24 The SPF record of broken.test ")
        assert post.send("soft.test").startswith("250")
        arrived = post.arrived()
        assert b"\r\nReceived-SPF: softfail (mail.example.test: soft.test " in arrived
        assert parse(arrived)["spf"].result == "softfail"


def test_the_name_in_helo(tmp_path):
    settings = 'spf_enabled = true\n[plugins.spf]\non_helo_fail = "reject"\n'
    with posting(tmp_path, settings) as post, Dialogue(post.server.port) as client:
        assert client.say("EHLO mx.pass.test").startswith("550 5.7.23 mx.pass.test does not let")
        assert client.say("EHLO nothing.test").startswith("250")


def test_a_cap_on_what_is_done(tmp_path):
    with posting(tmp_path, CAPPED, "[plugins.spf]\njudge_trusted = true\n") as post:
        reply = post.send("fail.test", content=message("reject.test"))
        queue_id = reply.rpartition(" ")[2]
        post.server.wait_event("message_quarantined", queue_id=queue_id, plugin="dmarc")
        show = json.loads(post.server.cli("queue", "show", queue_id, "--json").stdout)
        assert "local_policy" in json.dumps(show)
        assert post.send("fail.test", content=message("fail.test")).startswith("250")
        assert post.results()["dmarc"].result == "fail"
        # of whom DMARC does not judge, SPF is not left to it
        assert post.send("fail.test", source="127.0.0.200").startswith("550 5.7.23 ")


def test_overrides_and_trusted_sealers(tmp_path):
    more = """
[plugins.dmarc]
trusted_sealers = ["signed.test", "down.test"]
[plugins.dmarc.overrides]
"fail.test" = "reject"
"quarantine.test" = "none"
"""
    with posting(tmp_path, ALL, more) as post:
        reply = post.send("pass.test", source="127.0.0.2", content=message("fail.test"))
        assert reply.startswith(
            "550 5.7.26 Neither SPF nor DKIM shows that this message is from fail.test (DMARC)"
        )
        post.send("pass.test", source="127.0.0.2", content=message("quarantine.test"))
        assert post.results()["dmarc"].result == "fail"
        passed = "dmarc=pass header.from=reject.test"
        listed = sealed(message("reject.test"), "signed.test", passed)
        assert post.send("soft.test", content=listed).startswith("250")
        assert post.results()["dmarc"].result == "fail"
        unknown = sealed(message("reject.test"), "pass.test", passed)
        assert post.send("soft.test", content=unknown).startswith("550 5.7.26 ")
        failed = sealed(message("reject.test"), "signed.test", "dmarc=fail header.from=reject.test")
        assert post.send("soft.test", content=failed).startswith("550 5.7.26 ")
        later = sealed(message("reject.test"), "down.test", passed)
        assert post.send("soft.test", content=later).startswith("451 4.7.26 ")


DOWN = """
[plugins.iprev]
on_temperror = "ITSELF"
[plugins.spf]
on_temperror = "ITSELF"
[plugins.dkim]
on_temperror = "ITSELF"
[plugins.dmarc]
on_temperror = "ITSELF"
"""


def test_the_dns_is_down(tmp_path):
    """Mail waits where policy says so, check by check; without that it is taken, and no pass."""
    content = signed(message("pass.test"), "pass.test")
    with posting(tmp_path, ALL, DOWN.replace("ITSELF", "continue")) as post:
        post.stop_dns()
        post.send("pass.test", source="127.0.0.2", content=content)
        found = post.results()
        assert {name: found[name].result for name in ("iprev", "spf", "dkim", "dmarc", "arc")} == {
            "iprev": "temperror",
            "spf": "temperror",
            "dkim": "temperror",
            "dmarc": "temperror",
            "arc": "none",
        }
        change = DOWN.replace("ITSELF", "continue")
        for table, stage, reply in (
            ("dmarc", "message", "451 4.4.3 Whether this is from pass.test cannot be looked up"),
            ("dkim", "message", "451 4.4.3 The key of a DKIM signature cannot be looked up"),
            ("spf", "mail", "451 4.4.3 The SPF record of pass.test cannot be looked up"),
        ):
            head = f"[plugins.{table}]\non_temperror = "
            assert head in change
            post.server.reload(f'{head}"continue"', f'{head}"defer"')
            answer = post.send("pass.test", source="127.0.0.2", content=content)
            assert answer.startswith(reply)
            post.server.wait_event("message_rejected", plugin=table, stage=stage)
        head = "[plugins.iprev]\non_temperror = "
        post.server.reload(f'{head}"continue"', f'{head}"defer"')
        with Dialogue(post.server.port, source="127.0.0.2") as client:
            assert client.banner.startswith("421 4.4.3 ")


def test_a_slow_dns_is_a_temperror_and_not_a_failure(tmp_path):
    more = "".join(f"[plugins.{name}]\nlimit = 0.3\n" for name in ("spf", "dkim", "dmarc"))
    with posting(tmp_path, CAPPED, more) as post:
        content = signed(message("slow.test"), "slow.test")
        assert post.send("slow.test", content=content).startswith("250")
        found = post.results()
        assert {name: found[name].result for name in ("spf", "dkim", "dmarc")} == {
            "spf": "temperror",
            "dkim": "temperror",
            "dmarc": "temperror",
        }
        assert post.server.events("plugin_error") == []


def test_checks_can_be_switched_on_and_off_while_it_runs(tmp_path):
    with posting(tmp_path, "spf_enabled = false\n") as post:
        assert post.send("fail.test").startswith("250")
        post.server.reload("spf_enabled = false", "spf_enabled = true")
        assert post.send("fail.test").startswith("550 5.7.23 ")
        post.server.reload("spf_enabled = true", "spf_enabled = false")
        assert post.send("fail.test").startswith("250")


def test_forged_results_alone(tmp_path):
    settings = 'results = "on"\nauthserv_id = "Example.Test"\n'
    with posting(tmp_path, settings) as post:
        forged = FORGED.replace(b"mail.example.test", b"EXAMPLE.test")
        post.send(
            "pass.test",
            content=forged + FORGED.replace(b"mail.example", b"other") + message("pass.test"),
        )
        head = post.arrived().partition(b"\r\n\r\n")[0]
        assert head.count(b"Authentication-Results") == 1
        assert b"Authentication-Results: other.test; dkim=pass" in head


def test_logins(tmp_path):
    port, table = submission()
    with posting(tmp_path, ALL, table + AUTH) as post:
        add_user(post.server, "me@example.test")
        with Dialogue(port) as client:
            client.hello()
            assert client.say(plain("me@example.test", PASSWORD)).startswith("235")
            content = FORGED + message("example.test").replace(b"someone@", b"me@")
            reply = client.deliver(content, "me@example.test", "you@example.test")
            assert reply.startswith("250")
        (arrived,) = post.server.wait_mail("you")
        found = parse(arrived)
        assert list(found) == ["auth"]
        assert (found["auth"].result, found["auth"].properties[0].value) == (
            "pass",
            "me@example.test",
        )
        assert arrived.count(b"Authentication-Results") == 1


def test_nobody_hears_of_a_failure_whose_sender_may_be_forged(tmp_path):
    more = """
[queue]
bounce_unverified = "send"
retry_schedule = ["1h"]
"""
    more += PLUGINS
    write_plugin(
        tmp_path,
        "sink",
        """
        def on_pre_delivery(self, ctx):
            if ctx.sender is not None:
                return Result.reject("No")
        """,
    )
    with posting(tmp_path, ALL, more) as post:
        for author, silenced in (("fail.test", True), ("pass.test", False)):
            reply = post.send("pass.test", source="127.0.0.2", content=message(author))
            queue_id = reply.rpartition(" ")[2]
            (event,) = post.server.wait_event("message_bounced", queue_id=queue_id)
            assert (event["notification"] == "silenced by dmarc") is silenced
        assert len(post.server.wait_event("message_enqueued", 3)) == 3


def test_seals(tmp_path):
    keep(tmp_path / "keys", "signed.test", "key", PrivateKey.load(private()))
    write_plugin(
        tmp_path,
        "late",
        """
        def on_enqueue(self, ctx):
            return Result.modify(ReplaceHeader("Subject", "changed at the last moment"))
        """,
    )
    more = '[plugins.arc]\nseal = true\nseal_domain = "signed.test"\nkeys_dir = "{folder}/keys"\n'
    more += PLUGINS
    with posting(tmp_path, ALL, more) as post:
        post.send("pass.test", source="127.0.0.2", content=message("soft.test"))
        arrived = post.arrived()
        keys = {b"key._domainkey.signed.test.": record().encode()}
        state, sets, _ = dkim.arc_verify(
            arrived, dnsfunc=lambda name, timeout=5: keys.get(name), minkey=1024
        )
        assert (state, len(sets)) == (b"pass", 1)
        assert b"\r\nSubject: changed at the last moment\r\n" in arrived
        again = arrived.partition(b"Delivered-To: ")[2].partition(b"\r\n")[2]
        post.send("soft.test", content=again)
        twice = post.arrived()
        below = twice.partition(b"\r\nAuthentication-Results: ")
        assert parse(below[1].lstrip() + below[2])["arc"].result == "pass"
        state, sets, _ = dkim.arc_verify(
            twice, dnsfunc=lambda name, timeout=5: keys.get(name), minkey=1024
        )
        assert (state, len(sets)) == (b"pass", 2)


def test_the_order_does_not_depend_on_the_operator(tmp_path):
    names = ["authentication-results", "dmarc", "arc", "dkim", "spf", "iprev"]
    more = f"[plugins]\nplugins = {json.dumps(names)}\n"
    with posting(tmp_path, "", more) as post:
        assert post.send("pass.test", source="127.0.0.2").startswith("250")
        found = post.results()
        assert list(found) == ["iprev", "spf", "dkim", "dmarc", "arc"]
        reply = post.send("fail.test", content=message("reject.test"))
        assert reply.startswith("550 5.7.26 ")


def test_what_others_learn(tmp_path):
    """Plugins that come later have all of it: typed, and as strings."""
    write_plugin(
        tmp_path,
        "later",
        """
        def on_validated(self, ctx):
            about = ctx.message.authentication
            typed = [about.iprev, about.spf, *about.dkim, about.arc, about.dmarc]
            words = [f"{name}={ctx.metadata[name]}" for name in sorted(ctx.metadata)]
            return Result.reject(" ".join([*(each.status for each in typed), *words]))
        """,
    )
    with posting(tmp_path, ALL, PLUGINS) as post:
        reply = post.send("soft.test", source="127.0.0.3")
        assert reply.startswith(
            "550 5.7.1 fail softfail none none none auth.arc=none auth.dkim=none auth.dmarc=none "
            "auth.iprev=fail auth.spf=softfail authentication-results=mail.example.test; iprev="
        )


def test_what_others_learn_in_processes_of_their_own(tmp_path):
    """Strings reach them, and what they are told does not disturb what the checks remember."""
    write_plugin(
        tmp_path,
        "later",
        """
        def on_mail_from(self, ctx):
            ctx.session.notes["seen"] = True

        def on_headers(self, ctx):
            ctx.session.notes["seen"] = False

        def on_validated(self, ctx):
            words = [f"{name}={ctx.metadata[name]}" for name in sorted(ctx.metadata)]
            return Result.reject(" ".join(words))
        """,
    )
    more = PLUGINS
    more += '[[plugins.plugin]]\nname = "later"\nmodule = "later.py"\nisolation = "process"\n'
    content = signed(message("soft.test"), "signed.test")
    with posting(tmp_path, ALL, more) as post:
        with Dialogue(post.server.port, source="127.0.0.2") as client:
            client.say("EHLO mx.pass.test")
            replies = [client.deliver(content, "a@soft.test", "b@example.test") for _ in range(2)]
        for reply in replies:
            assert reply.startswith(
                "550 5.7.1 auth.arc=none auth.dkim=pass auth.dmarc=none auth.iprev=pass "
                "auth.spf=softfail authentication-results=mail.example.test; iprev=pass"
            )
        assert post.server.events("plugin_error") == []
