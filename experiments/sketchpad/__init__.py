"""A page to draw on, with a trained network inside."""
