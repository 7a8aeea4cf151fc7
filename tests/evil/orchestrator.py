import sys

from deeds import boot, prepare

prepare()
sys.exit(boot.run_supervisor("wan"))
