"""Delivery over SMTP: where mail goes (`Routes`), what is to be sent (`Job`), and the connections that carry it
(`Pool`).

Promises: each job ends with one result per recipient. Fails: as results, never as exceptions.
"""

from postroom.smtp_out.job import Job
from postroom.smtp_out.pool import Pool
from postroom.smtp_out.routes import Routes

__all__ = ["Job", "Pool", "Routes"]
