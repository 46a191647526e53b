"""The whole sync under random edits, faults and crashes, in emulated time; a failing seed replays by its number.

    python -m tests.simulation --seeds 1000 --jobs 2
    python -m tests.simulation --seed 4711 --trace

| module | what it is |
|---|---|
| `steps` | workers that stand still, or die, after any step the outside world can see |
| `wire` | the clients' HTTP session: a WSGI application behind it, and faults on the way |
| `storage` | the ports of `tests.fakes`, with steps, and answers that get lost |
| `crm` | what people do in Dynamics and in Marketo |
| `simulation` | one seed: random events, checks between them, rest, checks at rest |
| `__main__` | many seeds in several processes |
"""
