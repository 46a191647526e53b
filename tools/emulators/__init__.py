"""Dataverse and Marketo as real HTTPS servers on loopback: for tests, for the demo, and to try a mapping offline."""
