"""Sockets and pipes between the programs of a session. Only this package knows zmq.

connection   a client's end: one DEALER
server       the scheduler's end: one ROUTER
lifeline     a pipe that tells one process that another is gone
"""
