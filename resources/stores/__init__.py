"""Where a run keeps what must outlast it: checkpoints, dead letters; and where secrets come from. No connector lives here."""
