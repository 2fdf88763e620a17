"""What a user can mend, told apart from what is wrong with the program."""


class MusicAssetsError(Exception):
    """Something that a user can mend: the message is one sentence that says what is wrong and what to do.

    The command line, Dagster and a group of training processes show that sentence, and nothing is tried again. Any
    other exception is a bug of the program: it keeps its traceback.
    """
