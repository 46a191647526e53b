"""What is decided, without any input or output."""
