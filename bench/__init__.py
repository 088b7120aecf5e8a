"""Measures Elemta beside Postfix: `python -m bench`; its memory: `python -m bench.memory`.

Everything runs on loopback, in a temporary folder, and ends with the program that started it.
`docs/benchmark.md` says what is measured and how to read it.
"""
