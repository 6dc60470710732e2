"""What is measured and tried on clusters made for it: each on a directory and on ports of its own, never the user's."""
