"""Search: which config is best; no Ray, so all of it runs in tests in milliseconds."""
