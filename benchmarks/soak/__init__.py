"""Load on connections for some minutes, while troubles befall them that are drawn from a seed.

    python -m benchmarks.soak [--minutes 10] [--seed N] [--threads 8]

In the repository's directory. Real Milvus servers, a Milvus Lite and an application run in
processes of their own. The application calls in each way that there is, on threads and on an event
loop. Meanwhile servers are killed, frozen and cut off, passwords change, aliases come and go by a
reload, connections are closed, and the application forks. It fails if a call is lost beyond an
outage or outlives its deadline, if a child fails, or if anything grows: memory, threads,
descriptors, objects. The seed that is printed repeats the troubles.
"""
