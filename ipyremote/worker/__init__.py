"""The worker program: runs tasks and actors on its main thread.

process             start and end of the program; the zygote calls `main(boot)`
host                the queue of runs that were sent here, between the session's threads and the main thread
run                 one run: opens the arguments, calls user code, reports
actors              actors that run several calls at a time; concurrency_groups decides which of the calls run
streams             the items of a task that yields
current_task        answers to what user code asks about itself
reporter            sends what user code shows, which `remote_cells` collects
title               the title of the process in `ps` and `top`
"""
