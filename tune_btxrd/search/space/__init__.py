"""Search spaces: a YAML file, its checks, its schema, its description."""
