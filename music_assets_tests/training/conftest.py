from music_assets_tests.threads import one_thread

__all__ = ["one_thread"]
