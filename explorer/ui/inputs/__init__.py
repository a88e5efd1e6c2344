"""Widgets for what is asked for: forms from fields, choice of dataset, model, picture, attack."""
