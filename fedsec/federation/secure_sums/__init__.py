"""Protocols of secure aggregation, simulated: how clients' vectors become their sum, exactly, and what that costs.

Its lower part is a library of its own: it knows rings, secrets, who drops out and bytes, and nothing of federations.
`row_sums` makes sums of real rows with it, and `summed_rounds` a server's round.

**A simulation, and no cryptography.** All parties live in one process, nothing is sent or encrypted, seeds come from
streams of the experiment, the exchange of keys is an algebraic stand-in that hides nothing, and masks come from a fast
generator that is none for secrets. What is real is the arithmetic: masks, shares, reconstruction, and what is left of
the sum when clients drop out. No claim of security is made for this code.
"""
