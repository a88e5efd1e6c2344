"""The Training page: choose a recipe, change it, start it, and watch it; what runs goes on without the page."""
