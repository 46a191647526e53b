"""Hosts that are killed at random moments, and whether Marketo is right afterwards."""
