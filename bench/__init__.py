"""Measurements of the sync against emulators: what it costs in calls, storage operations and CPU."""
