"""Who may send for a domain: the Sender Policy Framework (RFC 7208).

`SpfChecker.check` is the check_host() of the RFC: it reads the record of a domain, evaluates its
terms for a client and gives an `SpfVerdict`. `subject_of` says which domain and sender are to be
checked in a transaction, `received_spf` writes what came out into a header field.

A record is text of strangers. Its grammar is checked in whole before any of its terms counts; what
a macro expands to is a name or a text, never anything that is looked into again; and what it can
make us ask is bounded by `SpfSettings`, whatever it says. No input makes a check raise an error.
"""

from elemta.mailauth.spf.checker import SpfChecker
from elemta.mailauth.spf.received import received_spf
from elemta.mailauth.spf.settings import SpfSettings
from elemta.mailauth.spf.subject import SpfSubject, subject_of

__all__ = ["SpfChecker", "SpfSettings", "SpfSubject", "received_spf", "subject_of"]
