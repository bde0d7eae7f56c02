"""The rows of a table as Arrow batches, with state in JSON, for loaders that are not ours."""
