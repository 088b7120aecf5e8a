"""Plugins that Elemta brings: each a module or a package, written as anyone's plugin is.

They import `elemta.plugins`, `elemta.mailauth` and the rooms below. What several of them share is
in the modules that begin with an underscore, which are no plugins.
"""
