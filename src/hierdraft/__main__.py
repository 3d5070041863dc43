"""`python -m hierdraft`."""

from hierdraft.cli.app import main

main()
