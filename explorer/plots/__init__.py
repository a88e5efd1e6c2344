"""Arrays in, figures out; theme.py owns the colours."""
