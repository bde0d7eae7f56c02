"""State of the replica, beside its rows: how far tables were read, by which runs, and more."""
