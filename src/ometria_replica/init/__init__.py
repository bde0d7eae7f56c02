"""Set up an account: ask, try, and write the settings and an environment file."""
