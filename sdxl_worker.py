"""The worker that makes pictures with SDXL, until it is told to stop."""

from workers.boot import run_worker

if __name__ == "__main__":
    run_worker("sdxl")
