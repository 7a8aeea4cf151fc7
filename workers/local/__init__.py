"""The world around the workers on one machine: a real redis, its REST gateway, and a double of the July deployment.

Started by the demo and by tests. Everything listens on the loopback interface only.
"""
