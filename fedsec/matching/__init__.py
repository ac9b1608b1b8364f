"""What inversion attacks share: candidate updates, their distance to the observed one, and the search for its minimum.

Imports torch and the interfaces only, so that attacks stay light in other people's code.
"""
