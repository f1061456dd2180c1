"""Sockets and pipes between the programs; the only package that knows zmq.

connection   a client's end: one DEALER
server       the scheduler's end: one ROUTER
lifeline     a pipe that tells one process that another is gone
"""
