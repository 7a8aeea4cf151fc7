"""Both workers, started again whenever one dies. `--only sdxl` or `--only wan` starts one of them."""

import sys

from workers.cli.app import main

if __name__ == "__main__":
    main(["supervise", *sys.argv[1:]])
