"""Tables, plots and statistics."""
