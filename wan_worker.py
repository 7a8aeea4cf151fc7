"""The worker that makes pictures and clips with Wan, until it is told to stop."""

from workers.boot import run_worker

if __name__ == "__main__":
    run_worker("wan")
