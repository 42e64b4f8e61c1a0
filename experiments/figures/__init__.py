"""The paper's figures, from a run.

Each figure is a file with functions for its numbers, and `draw`, which gives a `Drawn` or says why
a run has no such figure. `album` draws them all, `subject` reads what they are drawn of.
"""
