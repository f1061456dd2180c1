"""The worker program: runs tasks and actors on its main thread.

process   start and end of the program; `main(boot)` is what the zygote calls
host      the queue of tasks that were sent here, between the session's threads and the main thread
run       one run: open the arguments, call user code, report
output    stdout and stderr of user code, to the scheduler
cells     a `%%remote` cell
preview   what a displayed ref shows of its value
"""
