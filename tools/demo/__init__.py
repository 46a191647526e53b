"""A demonstration on this machine: both services emulated, real storage emulator, the functions as deployed."""
