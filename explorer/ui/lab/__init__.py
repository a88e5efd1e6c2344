"""The Lab page: what many pictures say of models, measured by background runs and read from cards; one module a view."""
