"""``python -m hybridus`` is the command ``hybridus``."""

from hybridus.cli import main

if __name__ == "__main__":
    main()
