"""The slow, obvious engine: a clock steps cycle by cycle, one port works through its list, one array through its
tiles."""


def stepped_clock(loads: list[int], computes: list[int], stores: list[int], double: bool) -> int:
    """Cycle at which everything is loaded, computed and stored. A store above 0 ends an output group."""
    n = len(loads)
    halves = 2 if double else 1
    port = []
    for i in range(n):
        port.append(("load", i))
        if i > 0 and stores[i - 1]:
            port.append(("store", i - 1))
    if n and stores[n - 1]:
        port.append(("store", n - 1))
    group_of, group = [], 0  # output group of each tile
    for i in range(n):
        group_of.append(group)
        group += 1 if stores[i] else 0
    ends: dict[tuple[str, int], int] = {}
    stored: dict[int, int] = {}
    time = 0
    busy_port: tuple[tuple[str, int], int] | None = None
    busy_array: tuple[int, int] | None = None
    next_port = next_compute = 0
    while next_port < len(port) or next_compute < n or busy_port or busy_array:
        moved = True
        while moved:  # all that can happen at this very time
            moved = False
            if busy_port and busy_port[1] == time:
                ends[busy_port[0]] = time
                if busy_port[0][0] == "store":
                    stored[group_of[busy_port[0][1]]] = time
                busy_port, moved = None, True
            if busy_array and busy_array[1] == time:
                ends["compute", busy_array[0]] = time
                busy_array, moved = None, True
            if busy_port is None and next_port < len(port):
                kind, i = port[next_port]
                free = ("compute", i - halves) in ends or i < halves if kind == "load" else ("compute", i) in ends
                if free:
                    length = loads[i] if kind == "load" else stores[i]
                    busy_port, next_port, moved = ((kind, i), time + length), next_port + 1, True
            if busy_array is None and next_compute < n:
                i = next_compute
                first_of_group = i == 0 or group_of[i] != group_of[i - 1]
                room = not first_of_group or group_of[i] < halves or group_of[i] - halves in stored
                if ("load", i) in ends and (i == 0 or ("compute", i - 1) in ends) and room:
                    busy_array, next_compute, moved = (i, time + computes[i]), i + 1, True
        time += 1
    return max(ends.values(), default=0)
