"""The default drafter: every level is looked up, what they say is weighed, one tree grows best-first."""
