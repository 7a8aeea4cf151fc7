import sys

from deeds import orchestrate, prepare

prepare()
sys.exit(orchestrate.run_supervisor("wan"))
