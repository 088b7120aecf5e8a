"""Plugins outside the worker: in a process of their own, in shared libraries, at an address."""
