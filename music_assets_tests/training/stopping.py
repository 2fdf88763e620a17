"""Trainings that stop at a step, as if they had been killed there."""


class Stopped(Exception):
    pass


def until(step, seen):
    """A reporter that notes every step and its loss, and stops the training at one of them; never, if it is None."""

    def report(progress):
        seen.append((progress.step, progress.loss))
        if progress.step == step:
            raise Stopped

    return report
