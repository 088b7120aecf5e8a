"""The names of plugins: they become names of files, of figures and rows of a database."""

import re

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)


def check_name(name: str) -> str:
    """Give the name of a plugin back if it is one.

    Raises:
        PluginError: It is not made of lower-case letters, digits and hyphens, does not begin with
            a letter, or is longer than 64.
    """
    if _NAME.fullmatch(name) is None:
        raise PluginError(
            f"{clean_text(name, 80)!r} cannot name a plugin: lower-case letters, digits and"
            " hyphens can, at most 64 of them, a letter first"
        )
    return name
