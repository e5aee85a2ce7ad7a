"""Why a connection ended: one list of words for the log, the metrics, the commands and the tests.

The list itself is the C enumeration in ``termination.pxd``, so that the engine's number and the word that a person
reads can never drift apart. ``word()`` gives the public spelling. ``protocol_error`` (a client that breaks TLS after
its handshake: a bad record, a flood of records without data) is our addition to the vocabulary of the interface.
"""

WORDS = tuple(member.name.lower() for member in Termination)
"""Every word, indexed by its number; ``open`` (0) is a connection that has not ended."""


def word(int number):
    """The public word of a termination number, as it stands in the access log.

    Raises:
        IndexError: the number is not in the list.
    """
    if not 0 <= number < len(WORDS):
        raise IndexError(number)
    return WORDS[number]
