#!/usr/bin/env python3
"""Makes the tables of the sensors example: ten pumps, forty-five days, a change on day 28. Standard library only.

    python3 examples/sensors/generate.py

writes `data/readings.csv`, `data/checks.csv` and `data/outcomes.csv` beside this file; the same seed gives the same
bytes. They are checked in, so nobody needs to run this to use the example.

The plant runs in production cycles of five days: load climbs for three days, then falls off for cleaning. Every pump has
three hidden states that wander slowly: wear, heat and cavitation. The sensors show them through noise, on top of what
the load does to them. Every two hours somebody asks: will this pump fail within the next six hours?

    until day 28    failures come of wear (vibration) and heat (temperature), the more so under load
    from day 28     new bearings and vibration sensors are fitted: wear no longer makes a pump fail, the new sensors read
                    lower and other than the old ones, and the stiffer shafts let cavitation through, which makes the
                    pressure swing and the flow sag

So a model of the first weeks is right until day 28 and misleading after, and what it needs is in the data all along.
"""

import csv
import math
import pathlib
import random
from datetime import datetime, timedelta, timezone

SEED = 20_240_301
START = datetime(2024, 3, 1, tzinfo=timezone.utc)
DAYS = 45
CHANGE_DAY = 28.0
CYCLE_HOURS = 120.0
PUMPS = [f"P{number:02d}" for number in range(1, 11)]
STEP_MINUTES = 30
READ_EVERY = 3  # steps: a reading every 90 minutes
ASK_EVERY = 4  # steps: a check every two hours
HORIZON = timedelta(hours=6)
# Share of a hidden state that is left after one step: half of it after about 20 hours.
MEMORY = 0.5 ** (STEP_MINUTES / 60 / 20)


def wander(state: float, rng: random.Random) -> float:
    """One step of a state that forgets slowly and has variance 1 in the long run."""
    return MEMORY * state + math.sqrt(1 - MEMORY**2) * rng.gauss(0, 1)


def plant_load(hours: float) -> float:
    """Load of the plant, 0.4 to 1: climbs for three days of the cycle, falls off for two."""
    phase = hours % CYCLE_HOURS
    share = phase / 72 if phase < 72 else (CYCLE_HOURS - phase) / 48
    return 0.4 + 0.6 * share


def failure(load: float, wear: float, heat: float, cavitation: float, changed: bool) -> float:
    """Probability that a pump in this state fails within the horizon."""
    if changed:
        logit = -2.0 + 0.5 * heat + 2.8 * cavitation + 2.0 * (load - 0.7)
    else:
        logit = -2.6 + 2.4 * wear + 1.2 * heat + 4.0 * (load - 0.7)
    return 1 / (1 + math.exp(-logit))


def simulate() -> tuple[list[list], list[list], list[list]]:
    rng = random.Random(SEED)
    readings, checks, outcomes = [], [], []
    states = {pump: [rng.gauss(0, 1) for _ in range(3)] for pump in PUMPS}
    # Pumps differ a little for good, as pumps do.
    own = {pump: (rng.gauss(0, 0.15), rng.gauss(0, 1.0)) for pump in PUMPS}
    for step in range(DAYS * 24 * 60 // STEP_MINUTES):
        hours = step * STEP_MINUTES / 60
        changed = hours / 24 >= CHANGE_DAY
        for index, pump in enumerate(PUMPS):
            state = states[pump] = [wander(value, rng) for value in states[pump]]
            wear, heat, cavitation = state
            load = min(1.1, max(0.3, plant_load(hours) + rng.gauss(0, 0.05)))
            # Pumps take turns within the half hour, so that event times differ.
            now = START + timedelta(hours=hours, minutes=2 * index)
            if (step + index) % READ_EVERY == 0:
                tremor, warmth = own[pump]
                seen = 1.6 + 0.45 * wear + 0.8 * load + rng.gauss(0, 0.2) + tremor
                vibration = 0.6 + 0.35 * seen if changed else seen
                temperature = 52 + 4.0 * heat + 9.0 * load + rng.gauss(0, 1.5) + warmth
                swing = 0.10 * math.exp(0.8 * cavitation)
                pressure = 6.0 + 1.2 * load - 0.30 * cavitation + rng.gauss(0, swing)
                flow = 40 * load - 5.0 * cavitation + rng.gauss(0, 1.5)
                readings.append(
                    [pump, stamp(now), f"{vibration:.3f}", f"{temperature:.2f}", f"{pressure:.3f}", f"{flow:.2f}"]
                )
            if (step + index) % ASK_EVERY == 0:
                asked = now + timedelta(minutes=1)
                check = f"C{len(checks) + 1:05d}"
                local = asked.hour
                shift = "night" if local < 6 or local >= 22 else "early" if local < 14 else "late"
                checks.append([check, pump, stamp(asked), f"{load:.3f}", f"{hours % CYCLE_HOURS:.1f}", shift])
                failed = rng.random() < failure(load, wear, heat, cavitation, changed)
                outcomes.append([check, stamp(asked + HORIZON), str(failed).lower(), "outcome"])
    return readings, checks, outcomes


def stamp(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def write(name: str, header: str, rows: list[list]) -> None:
    path = pathlib.Path(__file__).resolve().parent / "data" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header.split())
        table.writerows(rows)
    print(f"{name:<9} {len(rows):>6,} rows  {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    readings, checks, outcomes = simulate()
    write("readings", "pump measured_at vibration temperature pressure flow", readings)
    write("checks", "check_id pump asked_at load cycle_hour shift", checks)
    write("outcomes", "check_id known_at failed origin", outcomes)


if __name__ == "__main__":
    main()
