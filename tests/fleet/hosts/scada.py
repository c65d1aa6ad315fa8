"""A host on mqtt-spb-wrapper: keeps a picture of nodes and devices, and says when it changes.

Asks for a rebirth when a line comes in.
"""

import os
import sys
import threading
import time

from mqtt_spb_wrapper import MqttSpbEntityScada


def picture(app):
    lines = []
    for name, node in app.entities_eon.items():
        lines.append(f"node {name} {'alive' if node.is_alive() else 'dead'}")
        for device_name, device in node.entities_eond.items():
            lines.append(f"device {device_name} {'alive' if device.is_alive() else 'dead'}")
    return lines


# Who waits for a line finds the end instead: after a message that cannot be taken, or after two minutes.
threading.excepthook = lambda args: (print(args.exc_value, file=sys.stderr), os._exit(1))
guard = threading.Timer(120, os._exit, [2])
guard.daemon = True
guard.start()

app = MqttSpbEntityScada("plant", "scada")
if not app.connect("127.0.0.1", int(sys.argv[1])):
    sys.exit("cannot connect")


def watch():
    told = {}
    while True:
        for line in picture(app):
            what, state = line.rsplit(" ", 1)
            if told.get(what) != state:
                told[what] = state
                print(line, flush=True)
        time.sleep(0.02)


while not app.is_initialized():
    time.sleep(0.02)
print("listening", flush=True)
threading.Thread(target=watch, daemon=True).start()
for _line in sys.stdin:
    app.send_command("Node Control/Rebirth", True, "box")
