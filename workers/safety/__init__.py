"""What may be made at all. Always on; what is not sure to be allowed is refused."""
