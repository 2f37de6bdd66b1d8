"""The noise model `student_t` for `avse`."""

from .student_t import StudentT

__all__ = ["StudentT"]
