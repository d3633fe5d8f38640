"""The operator's files: settings and hosts, read, checked, and explained when they are wrong."""
