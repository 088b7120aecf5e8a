"""Look-ups of names: messages, name servers, a cache, and what DNSSEC says.

What others import is in `elemta.net`.
"""
