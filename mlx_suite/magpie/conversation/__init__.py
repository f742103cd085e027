"""Further turns of a row, in which the user stays the user."""
