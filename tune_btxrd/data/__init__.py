"""Data: files to arrays and tables; knows no model."""
