"""A host on pysparkplug, which decodes every message by its kind and resolves aliases by births.

Prints one line for each message, and asks for a rebirth when a line comes in.
"""

import os
import sys
import threading
import time

import pysparkplug as psp


def heard(_client, message):
    payload = message.payload
    # Deaths of devices have none, those of nodes have one under a name of its own.
    metrics = getattr(payload, "metrics", None) or [getattr(payload, "bd_seq_metric", None)]
    values = {metric.name: metric.value for metric in metrics if metric}
    device = message.topic.device_id or "-"
    kind = type(payload).__name__
    print(kind, device, getattr(payload, "seq", "-"), sorted(values.items()), flush=True)


# Who waits for a line finds the end instead: after a message that cannot be taken, or after two minutes.
threading.excepthook = lambda args: (print(args.exc_value, file=sys.stderr), os._exit(1))
guard = threading.Timer(120, os._exit, [2])
guard.daemon = True
guard.start()

client = psp.Client()
client.connect("127.0.0.1", port=int(sys.argv[1]), blocking=False)
everything = psp.Topic(group_id="plant", message_type="#")
client.subscribe(everything, psp.QoS.AT_LEAST_ONCE, heard)
print("listening", flush=True)
for _line in sys.stdin:
    now = int(time.time() * 1000)
    metric = psp.Metric(
        timestamp=now, name="Node Control/Rebirth", datatype=psp.DataType.BOOLEAN, value=True
    )
    topic = psp.Topic(group_id="plant", message_type=psp.MessageType.NCMD, edge_node_id="box")
    command = psp.NCmd(timestamp=now, metrics=(metric,))
    client.publish(
        psp.Message(topic=topic, payload=command, qos=psp.QoS.AT_MOST_ONCE, retain=False),
        include_dtypes=True,
    )
