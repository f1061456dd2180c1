"""`python -m ipyremote.benchmark`: how fast ipyremote is here, alone or beside other engines.

It is a program, not part of the API, and it uses only what any user can: the top package. Other engines are
imported inside functions, so it runs where none of them is installed.

engine.py      what a case may ask of an engine
engines/       one adapter for each engine, and their registry
workloads.py   the functions and actor classes that run in workers
cases.py       the rows: each a generator of samples, written once for all engines
engine_processes.py
               the processes of an engine: their memory, their end
child.py       one engine in a fresh process
rounds.py      starts children in turns, watches their time, collects their samples
results.py     what was measured
report.py      results -> table or JSON (pure)
profiling.py   one case of ipyremote under cProfile
arguments.py   the command line
"""
