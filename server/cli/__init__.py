"""The headrace command, one module a sub-command; only what is shown and asked, never how data moves."""
