"""Talking faces made by code: words to articulation, articulation to voice and to a drawn face."""
