"""What is attached to a message: by name, declared type, first octets, and in archives.

What is looked at is bounded: of what is too much, or cannot be read in one way only, an own
setting says what becomes of it, and it is never called harmless. Leaves behind:
`attachments.found` in the metadata and the notes of a message, and `X-Attachment-Status`.
"""

from elemta.plugins.builtin.attachments.plugin import Attachments

__all__ = ["Attachments"]
