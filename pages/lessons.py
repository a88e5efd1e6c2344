"""Lessons: five minutes each, a question before every run; alone, or led by a lecturer in a room."""

from explorer.ui import frame, lessons

frame.inside("lessons")
lessons.open_page()
lessons.show()
