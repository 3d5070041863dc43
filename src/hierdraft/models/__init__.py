"""From a name or a folder to a checked model on this disk, and to an engine that runs it."""
