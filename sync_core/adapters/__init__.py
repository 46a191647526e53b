"""The services and the storage behind the ports."""
