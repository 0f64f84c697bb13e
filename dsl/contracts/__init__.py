"""The leaf of the house: what rooms promise each other; imports the standard library and pyarrow only."""
