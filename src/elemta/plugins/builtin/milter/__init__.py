"""Milters: programs that speak the milter protocol of Sendmail judge and change mail.

Each milter is told of clients, envelopes and messages as they come, and what it answers goes to the
client after it has been checked. What it changes becomes edits. The last word is the server's: a
milter that accepts something only wants to know no more of it.

Leaves behind: `milter.failed` in the notes of a message that came past a milter which has failed.

```
plugin ── Talk (one milter, one client) ── Link (connection) ── packets
              └── Draft (the message, and its changes)
```
"""

from elemta.plugins.builtin.milter.plugin import Milter

__all__ = ["Milter"]
