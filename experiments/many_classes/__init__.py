"""How methods fare as classes are added; `__main__` is the command."""
