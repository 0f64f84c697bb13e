"""File formats as streams of Arrow batches, for every store of files: no store, no connector and no network lives here."""
