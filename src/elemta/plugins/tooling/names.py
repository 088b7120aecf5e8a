"""The names of plugins: they become names of files, of figures and rows of a database."""

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.plugins.plugin import PLUGIN_NAME


def check_name(name: str) -> str:
    """Give the name of a plugin back if it is one.

    Raises:
        PluginError: It is not made of lower-case letters, digits and hyphens, does not begin with
            a letter, or is longer than 64.
    """
    if PLUGIN_NAME.fullmatch(name) is None:
        raise PluginError(
            f"{clean_text(name, 80)!r} cannot name a plugin: lower-case letters, digits and"
            " hyphens can, at most 64 of them, a letter first"
        )
    return name
