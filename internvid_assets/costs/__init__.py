"""What was used up: measured write by write, told by stage, extrapolated to more videos, and stopped at a budget."""
