"""nightbatch beside its peers: the same OpenAI jobs against the emulator, by time, peak memory and the bill after a crash.

``make bench-peers`` runs it. Each contender is a process of its own, on an emulator of its own, in turn (A B C A B C). What
is not a part of nightbatch's own environment is installed, as it is published, into one for each peer.

- **Time**: from the jobs to the provider's acceptance ("send"), and from the ended batches to the stored answers
  ("fetch"). The provider's turnaround lies between the two and is not counted, nor are imports.
- **Memory**: the most that the contender's process held. Postgres, which nightbatch needs beside itself, is not in it.
- **The crash**: the process is killed with SIGKILL when the provider has accepted the (first) batch and lists it, its
  answer still under way; then the same work is started again, as the contender's documentation says. The emulator's
  billing log is counted.

nightbatch reads its jobs from Postgres, renders the prompts, and writes results, costs and roll-ups there, with fsync on.
What each peer does less is said in `contenders` and printed below the table.
"""
