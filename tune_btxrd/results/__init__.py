"""Results: what lies on disk after a search and its final job."""
