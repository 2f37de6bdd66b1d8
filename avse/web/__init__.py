"""The web page of `avse web`: what it shows, the work behind it, and its live stream. Needs the extra `web`."""
