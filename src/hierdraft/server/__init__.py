"""The server: the shapes that clients speak, over one model and its scheduler."""
