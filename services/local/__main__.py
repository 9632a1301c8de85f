"""``python -m services.local``"""

from services.local.cli import app

if __name__ == "__main__":
    app(prog_name="agentcom")
