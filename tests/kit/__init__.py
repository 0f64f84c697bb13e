"""Real servers for the tests, started on demand and gone with the process. Nothing outside tests may import it."""
