"""The status page: what HTTP shows and does, rendered here without any script that must run and nothing from elsewhere."""
