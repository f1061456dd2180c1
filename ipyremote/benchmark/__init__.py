"""`python -m ipyremote.benchmark`: a program that measures ipyremote on this machine, alone or beside other engines.

The benchmark is not part of the API and uses only the public top package. Other engines are imported inside
functions, so the benchmark runs where no other engine is installed.

engine.py      the interface of an engine for the cases
engines/       one adapter for each engine, and the registry of adapters
workloads.py   the functions and actor classes that run in workers
cases.py       the rows: each a generator of samples, written once for all engines
engine_processes.py
               the processes of an engine: finding, measuring and ending them
child.py       one engine in a fresh process
rounds.py      the parent: starts children in turns, enforces the time limit, collects samples
results.py     the records of the measurements
report.py      results -> table or JSON (pure)
profiling.py   one case of ipyremote under cProfile
arguments.py   the command line
"""
