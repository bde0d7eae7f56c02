"""Compares Ometria and the export with the warehouse, row by row."""
