"""The status page: whole pages from here, with no script that must run and nothing from elsewhere."""
