import functools
import os
import sys

from deeds import orchestrate, prepare

from workers.supervision.slot import Pace

prepare()
orchestrate.Pace = functools.partial(Pace, backoff=(float(os.environ.get("EVIL_BACK_OFF", "1")),), tick=0.1)
sys.exit(orchestrate.run_supervisor("wan"))
