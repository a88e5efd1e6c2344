"""The models: what each one is, how it was made, and what was measured on it."""

from explorer.ui import frame, model_cards

frame.inside("models")
model_cards.overview()
model_cards.details()
