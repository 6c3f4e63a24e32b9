"""HTTP surfaces of low rate, served by twisted.web: registration and versions."""
