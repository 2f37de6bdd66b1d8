"""Figures, a file a subject; `figure` says how all of them look."""
