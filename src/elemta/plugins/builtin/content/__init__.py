"""Rules about what a message says: keywords and regular expressions over its decoded text.

Text is read as a person would see it: transfer encodings and character sets are undone, HTML is
stripped, and what is not seen does not count. Logs and notes have the names of the rules that
match, never what they match. Leaves behind: `content.rules` and `content.score` in the metadata
and the notes of a message, and `X-Content-Rules`.
"""

from elemta.plugins.builtin.content.plugin import Content

__all__ = ["Content"]
