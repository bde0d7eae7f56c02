"""Models: build the dbt package that comes with the program in the configured warehouse."""
