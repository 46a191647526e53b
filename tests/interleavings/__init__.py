"""Every interleaving of the real steps, up to a stated bound: `python -m tests.interleavings --help`.

steps      the real `Engine.detect` and `Engine.deliver`, stopped at each call of a port
stage      what they share (Dynamics, Marketo, storage, queue) as one small value, and what each call does to it
rules      what must be true at rest
search     all orders of all steps, edits and faults, breadth first; the shortest trace to a difference
bounds     the configurations: who acts, how often, what may go wrong
ablations  rules of the protocol taken out, to see that the search finds what each of them prevents
"""
