"""Generated talking faces: words to articulation, articulation to speech and to a drawn face."""
