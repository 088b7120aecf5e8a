"""Plugins that would see nothing, or defer all mail, in a process of their own say so."""

import importlib
import pkgutil

from elemta.plugins import builtin
from elemta.plugins.finding.inspection import find_class

MAY_BE_ISOLATED = {
    "attachments",
    "clamav",
    "content",
    "geoip",
    "greylist",
    "rspamd",
    "spamassassin",
}


def test_only_those_that_can_do_without_the_worker_may_be_elsewhere():
    found = set()
    for each in pkgutil.iter_modules(builtin.__path__):
        if not each.name.startswith("_"):
            module = importlib.import_module(f"{builtin.__name__}.{each.name}")
            metadata = find_class(module).metadata
            if not metadata.only_in_worker:
                found.add(metadata.name)
    assert found == MAY_BE_ISOLATED
