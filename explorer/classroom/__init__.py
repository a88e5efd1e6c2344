"""Teaching: lessons, predictions before a run, rooms that one lecturer leads, and what people see. Knows no Streamlit."""

from explorer.classroom.lesson import Fault, Lesson, Scene, lessons, parse, read
from explorer.classroom.question import Question, brier

__all__ = ["Fault", "Lesson", "Question", "Scene", "brier", "lessons", "parse", "read"]
