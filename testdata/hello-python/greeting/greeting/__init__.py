def of(name: str) -> str:
    return f"Hello from {name}!"
