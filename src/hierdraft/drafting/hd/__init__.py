"""Hierarchy Drafting as its paper describes it, and its window."""
