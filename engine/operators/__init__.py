"""Open operators: what happens to batches inside a stage; each is chosen by the plan, none reads a document."""
