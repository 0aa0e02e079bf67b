"""The language server: what an editor shows of a spec while it is written.

`server` and `convert` speak the protocol; all other modules are functions over texts and places in them, and import
nothing but the language and what reads it.
"""
