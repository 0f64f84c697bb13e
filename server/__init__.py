"""The headrace command and the web server. Nothing may import it."""
