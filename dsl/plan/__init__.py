"""Frozen data: the logical plan, the physical plan, and the visitors that read them; nothing here runs."""
