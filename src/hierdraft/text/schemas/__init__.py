"""JSON schemas as people have them, brought into a form that a grammar can be made of.

`documents` reads a schema and what it refers to, `bundle` writes both as one schema of the newest draft, `enforce`
replaces what a grammar does not know by something it does, and `check` looks at finished answers.
"""
