"""Reports to domains on mail that names them as its author's (DMARC, RFC 9990).

They say how much there was, from where, whether SPF and DKIM vouched for it, what became of it.

Each worker counts what DMARC finds, all write it into one database, and once a day whichever is
first makes the reports and submits them as mail.

Leaves behind `dmarc-reports.db` in the state folder.
"""

from elemta.plugins.builtin.dmarc_reports.plugin import DmarcReports

__all__ = ["DmarcReports"]
