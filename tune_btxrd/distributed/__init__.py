"""Distribution: the only folder that imports Ray."""
