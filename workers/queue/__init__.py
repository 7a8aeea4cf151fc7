"""The queue: Redis decides who holds which job, and every decision is one script."""
