"""How fast the project is: commands that measure it, beside peers written for the same recipe."""
